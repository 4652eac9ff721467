//! Puts a credential on a request, at the last moment before it is sent.

use http::{HeaderName, Uri, header::AUTHORIZATION, request::Parts};
use table::Auth;

use super::credentials::HostSecret;

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why a credential cannot be put on a request. Never shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The Host names a header that is none.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// The host wants a credential and there is none.
    #[error("the host needs a credential and the key has none")]
    Missing,
    /// The credential cannot stand where it should.
    #[error("the credential cannot be sent in this place")]
    Unusable,
}

/// Puts `credential` where `auth` says. Whatever stood there is replaced; header values are marked as sensitive, so
/// that neither `Debug` nor HTTP/2's table of headers holds them.
pub fn put(credential: Option<&HostSecret>, auth: &Auth, parts: &mut Parts) -> Result<(), PlacementError> {
    let secret = || credential.ok_or(PlacementError::Missing);
    match auth {
        Auth::None => {}
        Auth::Bearer => drop(parts.headers.insert(AUTHORIZATION, secret()?.bearer())),
        Auth::Header(name) => drop(parts.headers.insert(header(name)?, secret()?.plain())),
        Auth::Query(name) => {
            parts.uri = with_query(&parts.uri, name, secret()?.expose()).ok_or(PlacementError::Unusable)?;
        }
    }
    Ok(())
}

fn header(name: &str) -> Result<HeaderName, PlacementError> {
    // Anthropic's, which nearly all hosts have that are not asked with a bearer.
    if name == X_API_KEY.as_str() {
        return Ok(X_API_KEY);
    }
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| PlacementError::HeaderName(name.to_owned()))
}

fn with_query(uri: &Uri, name: &str, value: &str) -> Option<Uri> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    let others = uri.query().unwrap_or_default();
    query.extend_pairs(url::form_urlencoded::parse(others.as_bytes()).filter(|(other, _)| other != name));
    query.append_pair(name, value);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), query.finish()).parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn placed(auth: &Auth) -> Parts {
        let request = Request::get("http://h/v1/models?a=1&key=old").header("x-key", "old");
        let mut parts = request.body(()).unwrap().into_parts().0;
        let secret = HostSecret::new("sk-canary+1").unwrap();
        put(Some(&secret), auth, &mut parts).unwrap();
        parts
    }

    #[test]
    fn bearer_and_header_replace_what_stood_there_and_are_never_printed() {
        let bearer = placed(&Auth::Bearer);
        assert_eq!(bearer.headers[AUTHORIZATION], "Bearer sk-canary+1");
        let header = placed(&Auth::Header("x-key".into()));
        assert_eq!(header.headers.get_all("x-key").iter().collect::<Vec<_>>(), ["sk-canary+1"]);
        assert!(!format!("{bearer:?}{header:?}").contains("canary"));
        let [bearer, header] = [&bearer.headers[AUTHORIZATION], &header.headers["x-key"]];
        assert!(bearer.is_sensitive() && header.is_sensitive(), "HTTP/2 keeps neither in its table");
    }

    #[test]
    fn the_header_of_anthropic_is_the_same_however_its_name_is_spelt() {
        for name in ["x-api-key", "X-Api-Key"] {
            let parts = placed(&Auth::Header(name.into()));
            assert_eq!(parts.headers["x-api-key"], "sk-canary+1", "{name}");
        }
    }

    #[test]
    fn a_query_parameter_is_escaped_and_keeps_the_others() {
        let parts = placed(&Auth::Query("key".into()));
        assert_eq!(parts.uri, "http://h/v1/models?a=1&key=sk-canary%2B1");
    }

    #[test]
    fn a_host_without_auth_gets_no_credential() {
        let parts = placed(&Auth::None);
        assert!(!parts.headers.contains_key(AUTHORIZATION));
        assert_eq!(parts.uri, "http://h/v1/models?a=1&key=old");
    }

    #[test]
    fn a_missing_credential_and_a_wrong_header_name_are_said() {
        let mut parts = Request::get("/").body(()).unwrap().into_parts().0;
        assert_eq!(put(None, &Auth::Bearer, &mut parts), Err(PlacementError::Missing));
        let secret = HostSecret::new("k").unwrap();
        let wrong = put(Some(&secret), &Auth::Header("no good".into()), &mut parts);
        assert_eq!(wrong, Err(PlacementError::HeaderName("no good".into())));
    }
}
