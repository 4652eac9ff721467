//! What the head of a request says: route, tokens, and the facts of its headers. The body is left to `intake` and to
//! the protocol.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use protocol::WireShape;
use smallvec::SmallVec;
use table::Secret;

use crate::{
    denied::Denied,
    route::{self, Endpoint, Route},
};

const DEBUG: HeaderName = HeaderName::from_static("x-relay-debug");

/// The headers in which the published APIs take keys, beside `Authorization`.
static KEYS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];

/// The head of a request, read.
#[derive(Clone, Debug)]
pub struct Inbound<'a> {
    /// In which shape answers and errors go back.
    pub shape: WireShape,
    /// What is asked.
    pub endpoint: Endpoint,
    /// Tokens that may be a relay key.
    pub bearers: Bearers<'a>,
    /// How the body is compressed, in lower case; absent: it is not.
    pub content_encoding: Option<String>,
    /// Whether the caller takes gzip.
    pub accepts_gzip: bool,
    /// Whether the caller wants to see why each candidate was or was not tried (`x-relay-debug`).
    pub debug: bool,
}

/// Reads the head of a request. Errs as [`route::route`] does, in the shape that [`route::shape_of`] gives.
pub fn read<'a>(method: &Method, uri: &Uri, headers: &'a HeaderMap) -> Result<Inbound<'a>, Denied> {
    let Route { endpoint, shape } = route::route(method, uri.path(), headers)?;
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    Ok(Inbound {
        shape,
        endpoint,
        bearers: Bearers::read(headers),
        content_encoding: text(header::CONTENT_ENCODING).filter(|e| !e.is_empty()).map(str::to_ascii_lowercase),
        accepts_gzip: accepts_gzip(headers),
        debug: text(DEBUG).is_some_and(|value| !matches!(value, "" | "0" | "false")),
    })
}

/// Tokens that may be a relay key, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Bearers<'a>(SmallVec<[Secret<&'a str>; 2]>);

impl<'a> Bearers<'a> {
    /// `Authorization: Bearer` first, then the key headers of the published APIs.
    pub fn read(headers: &'a HeaderMap) -> Self {
        let mut bearers = Self::default();
        for token in headers.get_all(header::AUTHORIZATION).into_iter().filter_map(bearer_of) {
            bearers.add(token);
        }
        // Most callers send none of them, which one look at all headers tells.
        let names_key = headers.keys().any(|name| KEYS.contains(name));
        for name in KEYS.iter().filter(|_| names_key) {
            for token in headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()) {
                bearers.add(token);
            }
        }
        bearers
    }

    fn add(&mut self, token: &'a str) {
        let token = Secret::new(token.trim());
        if !token.expose().is_empty() && !self.0.contains(&token) {
            self.0.push(token);
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tokens themselves.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|token| *token.expose())
    }

    #[cfg(test)]
    pub(crate) fn of(tokens: &[&'a str]) -> Self {
        Self(tokens.iter().copied().map(Secret::new).collect())
    }
}

fn bearer_of(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// Whether `Accept-Encoding` names gzip without forbidding it.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && quality != Some(0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(parsed) {
            headers.append(name, value);
        }
        headers
    }

    fn tokens(lines: &[(&'static str, &str)]) -> Vec<String> {
        Bearers::read(&headers(lines)).iter().map(str::to_owned).collect()
    }

    fn head(headers: &HeaderMap) -> Inbound<'_> {
        read(&Method::POST, &Uri::from_static("/v1/messages?beta=true"), headers).unwrap()
    }

    #[test]
    fn tokens_are_taken_from_every_place_that_sdks_use_and_authorization_comes_first() {
        let all = [("x-goog-api-key", "d"), ("api-key", "c"), ("x-api-key", "b"), ("authorization", "bearer  a ")];
        assert_eq!(tokens(&all), ["a", "b", "c", "d"]);
        assert_eq!(tokens(&[("x-api-key", "a"), ("authorization", "Bearer a")]), ["a"]);
    }

    #[test]
    fn what_is_no_bearer_token_is_none() {
        for line in [("authorization", "Basic dTpw"), ("authorization", "Bearer "), ("x-api-key", " "), ("cookie", "a")]
        {
            assert!(tokens(&[line]).is_empty(), "{line:?}");
        }
    }

    #[test]
    fn the_tokens_are_not_shown_when_a_head_is_printed() {
        assert!(!format!("{:?}", head(&headers(&[("x-api-key", "sk-canary")]))).contains("canary"));
    }

    #[test]
    fn gzip_is_accepted_where_it_is_named_and_not_forbidden() {
        for (value, expected) in
            [("gzip, deflate, br", true), ("br;q=1.0, GZIP;q=0.5", true), ("gzip;q=0", false), ("identity", false)]
        {
            assert_eq!(head(&headers(&[("accept-encoding", value)])).accepts_gzip, expected, "{value}");
        }
    }
}
