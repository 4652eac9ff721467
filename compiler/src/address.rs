//! Where a Host's endpoints are: the base URL with its version segment, and whether it may be connected to at all.
//! What a name resolves to is looked at by the data plane, each time.

use std::net::IpAddr;

use url::{Host, Url};

/// What a Host says of its address.
pub(crate) struct Written<'a> {
    pub(crate) base_url: &'a str,
    pub(crate) api_prefix: Option<&'a str>,
    pub(crate) allow_plaintext: bool,
    pub(crate) allow_private: bool,
}

/// Ends of paths that name an endpoint, which is not what a base URL is.
const ENDPOINTS: [&[&str]; 5] =
    [&["chat", "completions"], &["completions"], &["messages"], &["embeddings"], &["responses"]];

/// The URL below which endpoints hang, without a slash at its end. A path that has a version segment (`v1`, `v4`,
/// `v1beta`) is used as it is; otherwise `version` is added; a prefix replaces that choice.
pub(crate) fn base(written: &Written<'_>, version: &str) -> Result<String, String> {
    let url = parse(written)?;
    let mut path: Vec<&str> = segments(url.path()).collect();
    if let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| path.ends_with(endpoint)) {
        return Err(format!(
            "spec.baseURL `{}` names an endpoint: leave out `/{}`, Relay adds it",
            written.base_url,
            endpoint.join("/")
        ));
    }
    match written.api_prefix {
        Some(prefix) => add_once(&mut path, &segments(prefix).collect::<Vec<_>>()),
        None if path.iter().any(|segment| is_version(segment)) => {}
        None => path.push(version),
    }
    let mut joined = url.origin().ascii_serialization();
    for segment in path {
        joined.push('/');
        joined.push_str(segment);
    }
    Ok(joined)
}

fn parse(written: &Written<'_>) -> Result<Url, String> {
    let text = written.base_url;
    let shape = "write one as `https://api.example.com/v1`";
    let url = Url::parse(text).map_err(|error| format!("spec.baseURL is not a URL ({error}): {shape}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("spec.baseURL must not hold a user name or password: credentials belong into a HostKey".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("spec.baseURL must have no query and no fragment: end it after the path".to_owned());
    }
    match url.scheme() {
        "https" => {}
        "http" if written.allow_plaintext => {}
        "http" => {
            return Err(format!(
                "spec.baseURL `{text}` sends prompts and credentials unencrypted: use https, or set \
                 `spec.allowPlaintext: true`"
            ));
        }
        _ => return Err(format!("spec.baseURL `{text}` is neither https nor http: {shape}")),
    }
    if let Some(address) = private(&url).filter(|_| !written.allow_private) {
        return Err(format!(
            "spec.baseURL: `{address}` is not a public address: set `spec.network.allowPrivateAddresses: true` if it is \
             meant"
        ));
    }
    Ok(url)
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// A path that ends with the prefix has it already.
fn add_once<'a>(path: &mut Vec<&'a str>, prefix: &[&'a str]) {
    if !path.ends_with(prefix) {
        path.extend(prefix);
    }
}

/// `v`, digits, and perhaps a word such as `beta` or `beta1`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let word = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    word.len() < rest.len() && word.chars().all(|c| c.is_ascii_alphanumeric())
}

/// What in a URL is not public by itself: an address, in whatever spelling, or the name of the machine itself.
fn private(url: &Url) -> Option<String> {
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(name) => {
            let bare = name.trim_end_matches('.').to_ascii_lowercase();
            return (bare == "localhost" || bare.ends_with(".localhost")).then(|| name.to_owned());
        }
    };
    (!table::address::is_permitted(address, false)).then(|| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base_url: &str, api_prefix: Option<&str>) -> Result<String, String> {
        base(&Written { base_url, api_prefix, allow_plaintext: true, allow_private: true }, "v1")
    }

    #[test]
    fn a_version_is_added_once_and_only_where_there_is_none() {
        for (written, expected) in [
            ("https://api.openai.com", "https://api.openai.com/v1"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
            ("https://api.openai.com//v1//", "https://api.openai.com/v1"),
            ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1"),
            ("https://open.bigmodel.cn/api/paas/v4/", "https://open.bigmodel.cn/api/paas/v4"),
            ("http://10.0.0.1:8000/llm", "http://10.0.0.1:8000/llm/v1"),
            ("https://x.example/v1beta/openai", "https://x.example/v1beta/openai"),
            ("https://x.example/vendor", "https://x.example/vendor/v1"),
            ("https://x.example/v", "https://x.example/v/v1"),
            ("https://[2606:4700::1]:8443", "https://[2606:4700::1]:8443/v1"),
            ("https://X.Example:443", "https://x.example/v1"),
        ] {
            assert_eq!(joined(written, None).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_prefix_replaces_the_choice_and_is_never_there_twice() {
        for (written, prefix, expected) in [
            ("https://x.example", "/api/", "https://x.example/api"),
            ("https://x.example/llm", "/", "https://x.example/llm"),
            ("https://x.example/v1", "/v1", "https://x.example/v1"),
            ("https://x.example/openai", "/openai/v1", "https://x.example/openai/openai/v1"),
        ] {
            assert_eq!(joined(written, Some(prefix)).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn an_endpoint_is_not_a_base_url() {
        for written in ["https://x.example/v1/chat/completions", "https://x.example/v1/messages/"] {
            assert!(joined(written, None).unwrap_err().contains("names an endpoint"), "{written}");
        }
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = joined("https://user:canary@x.example", None).unwrap_err();
        assert!(error.contains("HostKey") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_spelling() {
        for address in
            ["127.0.0.1:1", "0x7f.1", "2130706433", "[::1]", "169.254.169.254", "LOCALHOST.", "[::ffff:10.0.0.1]"]
        {
            let base_url = &format!("https://{address}");
            let written = Written { base_url, api_prefix: None, allow_plaintext: false, allow_private: false };
            assert!(base(&written, "v1").unwrap_err().contains("is not a public address"), "{address}");
        }
    }
}
