//! Which endpoint a path means, with any prefix and version segments that SDKs put before it, and in which shape its
//! caller speaks.

use std::{iter::Filter, str::Split};

use http::{HeaderMap, Method};
use protocol::WireShape;

use crate::denied::Denied;

/// What is asked of Relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An answer in a conversation, in the shape of the route.
    Conversation,
    /// How many tokens a conversation has.
    CountTokens,
    /// Embeddings of texts.
    Embeddings,
    /// All models of the caller.
    Models,
    /// One of them.
    Model(String),
    /// Limits and spend of the caller.
    Usage,
    /// Whether anybody is there: needs no key, has no body.
    Root,
}

/// An endpoint and the shape in which it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What is asked.
    pub endpoint: Endpoint,
    /// In which shape answers and errors go back.
    pub shape: WireShape,
}

/// Reads a path; the query never counts. Errs on an unknown path, on a wrong method, and on endpoints of the published
/// APIs that Relay does not offer; [`shape_of`] says how to put that.
pub fn route(method: &Method, path: &str, headers: &HeaderMap) -> Result<Route, Denied> {
    let found = |endpoint, shape| Route { endpoint, shape };
    if let Some((endpoint, shape)) = usual(path).filter(|_| Allowed::Post.takes(method)) {
        return Ok(found(endpoint, shape));
    }
    let shape = shape_of(path, headers);
    let mut segments = Path::new(path).rest;
    let (first, rest) = (segments.next(), segments);
    let (second, third) = (rest.clone().next(), rest.clone().nth(1));
    let known = match (first, second, third) {
        (None, ..) => (found(Endpoint::Root, shape), Allowed::Get),
        (Some("chat"), Some("completions"), None) => {
            (found(Endpoint::Conversation, WireShape::OpenaiChat), Allowed::Post)
        }
        (Some("messages"), None, _) => (found(Endpoint::Conversation, WireShape::AnthropicMessages), Allowed::Post),
        (Some("messages"), Some("count_tokens"), None) => {
            (found(Endpoint::CountTokens, WireShape::AnthropicMessages), Allowed::Post)
        }
        (Some("embeddings"), None, _) => (found(Endpoint::Embeddings, WireShape::OpenaiChat), Allowed::Post),
        (Some("models"), None, _) => (found(Endpoint::Models, shape), Allowed::Get),
        (Some("models"), Some(_), _) => {
            let id: Vec<&str> = rest.collect();
            (found(Endpoint::Model(decoded(&id.join("/"))), shape), Allowed::Get)
        }
        (Some("usage"), None, _) => (found(Endpoint::Usage, shape), Allowed::Get),
        (Some(first), ..) if is_published(first) => return Err(Denied::NotOffered { path: shown(path) }),
        _ => return Err(Denied::UnknownRoute { method: method.to_string(), path: shown(path) }),
    };
    let (route, allowed) = known;
    if allowed.takes(method) {
        Ok(route)
    } else {
        Err(Denied::WrongMethod { method: method.to_string(), path: shown(path), allowed: allowed.header() })
    }
}

/// The shape in which a caller of `path` expects its answer, whatever becomes of the request: the endpoint's own, else
/// that of the prefix, else Anthropic's where its version header is sent.
pub fn shape_of(path: &str, headers: &HeaderMap) -> WireShape {
    if let Some((_, shape)) = usual(path) {
        return shape;
    }
    let Path { prefix, mut rest } = Path::new(path);
    match (rest.next(), prefix) {
        (Some("messages" | "complete"), _) => WireShape::AnthropicMessages,
        (Some("chat" | "embeddings" | "responses" | "completions"), _) => WireShape::OpenaiChat,
        (_, Some(shape)) => shape,
        (_, None) if headers.contains_key("anthropic-version") => WireShape::AnthropicMessages,
        (_, None) => WireShape::OpenaiChat,
    }
}

/// What is asked under the paths that SDKs write, as reading them segment by segment would find: nearly all requests have one
/// of these. All of them are posted to, and none leaves its shape to a header.
fn usual(path: &str) -> Option<(Endpoint, WireShape)> {
    match path {
        "/v1/chat/completions" | "/chat/completions" | "/openai/v1/chat/completions" | "/openai/chat/completions" => {
            Some((Endpoint::Conversation, WireShape::OpenaiChat))
        }
        "/v1/messages" | "/anthropic/v1/messages" => Some((Endpoint::Conversation, WireShape::AnthropicMessages)),
        "/v1/messages/count_tokens" | "/anthropic/v1/messages/count_tokens" => {
            Some((Endpoint::CountTokens, WireShape::AnthropicMessages))
        }
        "/v1/embeddings" | "/embeddings" | "/openai/v1/embeddings" | "/openai/embeddings" => {
            Some((Endpoint::Embeddings, WireShape::OpenaiChat))
        }
        _ => None,
    }
}

/// A path without its prefix, up to two version segments, and empty segments.
struct Path<'a> {
    prefix: Option<WireShape>,
    rest: Segments<'a>,
}

/// What stands between the slashes of a path, where something does.
type Segments<'a> = Filter<Split<'a, char>, fn(&&str) -> bool>;

impl<'a> Path<'a> {
    fn new(path: &'a str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or("");
        let is_segment: fn(&&str) -> bool = |segment| !segment.is_empty();
        let mut rest = path.split('/').filter(is_segment);
        let prefix = match rest.clone().next() {
            Some("openai") => Some(WireShape::OpenaiChat),
            Some("anthropic") => Some(WireShape::AnthropicMessages),
            _ => None,
        };
        if prefix.is_some() {
            rest.next();
        }
        for _ in 0..2 {
            if rest.clone().next() == Some("v1") {
                rest.next();
            }
        }
        Self { prefix, rest }
    }
}

#[derive(Clone, Copy)]
enum Allowed {
    Get,
    Post,
}

impl Allowed {
    fn takes(self, method: &Method) -> bool {
        match self {
            Allowed::Get => method == Method::GET || method == Method::HEAD,
            Allowed::Post => method == Method::POST,
        }
    }

    fn header(self) -> &'static str {
        match self {
            Allowed::Get => "GET, HEAD",
            Allowed::Post => "POST",
        }
    }
}

/// Whether the published APIs have such an endpoint, so that "not offered" says more than "unknown".
fn is_published(first: &str) -> bool {
    const FIRST: [&str; 27] = [
        "assistants",
        "audio",
        "batches",
        "chat",
        "chatkit",
        "complete",
        "completions",
        "containers",
        "conversations",
        "deployments",
        "edits",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "messages",
        "moderations",
        "organization",
        "organizations",
        "realtime",
        "rerank",
        "responses",
        "skills",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    ];
    FIRST.contains(&first)
}

/// `text` with its percent escapes undone; one that is no escape, or no UTF-8, stays as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%').then(|| after.get(..2).and_then(|digits| hex::decode(digits).ok())).flatten();
        match escaped {
            Some(byte) => (bytes.extend(byte), rest = &after[2..]),
            None => (bytes.push(*first), rest = after),
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A path as it may stand in a message: bounded, and without its query, which may hold a key.
fn shown(path: &str) -> String {
    path.split('?').next().unwrap_or("").chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use WireShape::{AnthropicMessages, OpenaiChat};

    use super::*;

    fn get(path: &str) -> Result<Route, Denied> {
        route(&Method::GET, path, &HeaderMap::new())
    }

    fn post(path: &str) -> Result<Route, Denied> {
        route(&Method::POST, path, &HeaderMap::new())
    }

    fn versioned() -> HeaderMap {
        [(http::HeaderName::from_static("anthropic-version"), http::HeaderValue::from_static("2023-06-01"))]
            .into_iter()
            .collect()
    }

    #[test]
    fn every_prefix_number_of_versions_and_trailing_slash_leads_to_the_same_endpoint() {
        let endpoints = [
            ("chat/completions", Endpoint::Conversation, OpenaiChat),
            ("messages", Endpoint::Conversation, AnthropicMessages),
            ("messages/count_tokens", Endpoint::CountTokens, AnthropicMessages),
            ("embeddings", Endpoint::Embeddings, OpenaiChat),
        ];
        for (path, endpoint, shape) in endpoints {
            for prefix in ["", "/openai", "/anthropic"] {
                for version in ["", "/v1", "/v1/v1"] {
                    for end in ["", "/", "?beta=true", "/?beta=true"] {
                        let path = format!("{prefix}{version}/{path}{end}");
                        assert_eq!(post(&path), Ok(Route { endpoint: endpoint.clone(), shape }), "{path}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_paths_that_are_known_by_heart_mean_what_their_segments_say() {
        let mut known = 0;
        for prefix in ["", "/openai", "/anthropic"] {
            for version in ["", "/v1"] {
                for path in ["/chat/completions", "/messages", "/messages/count_tokens", "/embeddings"] {
                    let path = format!("{prefix}{version}{path}");
                    // An empty segment at the end changes nothing, but is not known by heart.
                    let spelt = format!("{path}/");
                    assert_eq!((post(&path), get(&path).is_err()), (post(&spelt), get(&spelt).is_err()), "{path}");
                    assert_eq!(shape_of(&path, &versioned()), shape_of(&spelt, &versioned()), "{path}");
                    assert_eq!(usual(&spelt), None);
                    known += usize::from(usual(&path).is_some());
                }
            }
        }
        assert_eq!(known, 12, "each of them was tried");
    }

    #[test]
    fn the_list_of_models_is_in_the_shape_of_the_prefix_or_of_the_version_header() {
        let cases = [
            ("/v1/models", false, OpenaiChat),
            ("/v1/models?limit=1000", true, AnthropicMessages),
            ("/models/", true, AnthropicMessages),
            ("/anthropic/v1/models", false, AnthropicMessages),
            ("/openai/v1/models", true, OpenaiChat),
        ];
        for (path, with_version, shape) in cases {
            let headers = if with_version { versioned() } else { HeaderMap::new() };
            let expected = Route { endpoint: Endpoint::Models, shape };
            assert_eq!(route(&Method::GET, path, &headers), Ok(expected), "{path}");
        }
    }

    #[test]
    fn the_id_of_one_model_may_have_slashes_and_escapes() {
        for (path, id) in [
            ("/v1/models/anthropic/claude-sonnet-4.5", "anthropic/claude-sonnet-4.5"),
            ("/openai/models/anthropic%2Fclaude%5B1m%5D", "anthropic/claude[1m]"),
            ("/models/100%", "100%"),
        ] {
            assert_eq!(get(path).map(|route| route.endpoint), Ok(Endpoint::Model(id.into())), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        for (method, path, allowed) in [
            (Method::GET, "/v1/chat/completions", "POST"),
            (Method::DELETE, "/v1/models/x", "GET, HEAD"),
            (Method::POST, "/", "GET, HEAD"),
        ] {
            let expected = Denied::WrongMethod { method: method.to_string(), path: path.into(), allowed };
            assert_eq!(route(&method, path, &HeaderMap::new()), Err(expected), "{method} {path}");
        }
    }

    #[test]
    fn head_is_answered_where_get_is() {
        let head = |path| route(&Method::HEAD, path, &HeaderMap::new()).map(|route| route.endpoint);
        assert_eq!(head("/"), Ok(Endpoint::Root));
        assert_eq!(head("/v1/models"), Ok(Endpoint::Models));
    }

    #[test]
    fn what_the_published_apis_have_and_relay_has_not_is_not_offered_and_all_else_is_unknown() {
        for path in ["/v1/responses", "/openai/v1/images/generations", "/v1/audio/speech", "/v1/messages/batches"] {
            assert_eq!(post(path), Err(Denied::NotOffered { path: path.into() }), "{path}");
        }
        for path in ["/v1/chats", "/managed/settings", "/openai/v2/models", "/v1/v1/v1/models"] {
            let unknown = Denied::UnknownRoute { method: "GET".into(), path: path.into() };
            assert_eq!(get(path), Err(unknown), "{path}");
        }
    }

    #[test]
    fn a_key_in_the_query_is_not_repeated() {
        let Err(denied) = get("/v1beta/nonsense?key=sk-canary") else { panic!("it is unknown") };
        assert!(!denied.to_string().contains("sk-canary"));
    }

    #[test]
    fn refusals_speak_the_shape_that_the_path_or_the_headers_show() {
        let cases = [
            ("/v1/messages/batches", HeaderMap::new(), AnthropicMessages),
            ("/anthropic/nonsense", HeaderMap::new(), AnthropicMessages),
            ("/nonsense", versioned(), AnthropicMessages),
            ("/nonsense", HeaderMap::new(), OpenaiChat),
            ("/v1/responses", versioned(), OpenaiChat),
        ];
        for (path, headers, shape) in cases {
            assert_eq!(shape_of(path, &headers), shape, "{path}");
        }
    }
}
