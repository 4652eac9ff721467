//! Where a Host's endpoints are: the base URL with its version segment, and whether it may be connected to at all.

use std::net::IpAddr;

use url::{Host, Url};

/// The URL below which endpoints hang, without a slash at its end. A path that has a version segment (`v1`, `v4`,
/// `v1beta`) is used as it is; otherwise `version` is added; `prefix` replaces that choice.
pub(crate) fn base(written: &str, prefix: Option<&str>, version: &str) -> Result<String, String> {
    let url = Url::parse(written).map_err(|error| format!("spec.baseURL `{written}` is not a URL: {error}"))?;
    let path = url.path().trim_end_matches('/');
    let origin = url.origin().ascii_serialization();
    let is_versioned = path.split('/').any(is_version);
    let path = match prefix.map(|prefix| prefix.trim_matches('/')) {
        Some("") => path.to_owned(),
        Some(prefix) => format!("{path}/{prefix}"),
        None if is_versioned => path.to_owned(),
        None => format!("{path}/{version}"),
    };
    Ok(format!("{origin}{path}"))
}

fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    digits.len() < rest.len() && digits.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Why the host of a URL may not be connected to unless private addresses are allowed; absent: nothing in the URL itself
/// forbids it. Names are checked where they are resolved.
pub(crate) fn private(written: &str) -> Option<String> {
    let url = Url::parse(written).ok()?;
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(name) => {
            let is_local = name == "localhost" || name.ends_with(".localhost");
            return is_local.then(|| name.to_owned());
        }
    };
    (!table::address::is_public(address)).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_added_once_and_only_where_there_is_none() {
        for (written, joined) in [
            ("https://api.openai.com", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1"),
            ("https://open.bigmodel.cn/api/paas/v4/", "https://open.bigmodel.cn/api/paas/v4"),
            ("http://10.0.0.1:8000/llm", "http://10.0.0.1:8000/llm/v1"),
            ("https://x.example/v1beta/openai", "https://x.example/v1beta/openai"),
            ("https://x.example/vendor", "https://x.example/vendor/v1"),
        ] {
            assert_eq!(base(written, None, "v1").as_deref(), Ok(joined));
        }
    }

    #[test]
    fn a_prefix_replaces_the_choice() {
        assert_eq!(base("https://x.example", Some("/api/"), "v1").as_deref(), Ok("https://x.example/api"));
        assert_eq!(base("https://x.example/llm", Some("/"), "v1").as_deref(), Ok("https://x.example/llm"));
    }

    #[test]
    fn addresses_that_are_not_public_are_named() {
        for written in [
            "http://127.0.0.1:1",
            "http://[::1]",
            "http://169.254.169.254",
            "http://localhost",
            "http://[::ffff:10.0.0.1]",
        ] {
            assert!(private(written).is_some(), "{written}");
        }
        assert_eq!(private("https://api.openai.com"), None);
        assert_eq!(private("http://8.8.8.8"), None);
    }
}
