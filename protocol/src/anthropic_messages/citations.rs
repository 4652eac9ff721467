//! Citations: what a text rests on. Those of the web have a counterpart elsewhere; places in documents are kept as
//! they stand.

use serde_json::{Value, json};

use crate::answer::Citation;

const WEB: &str = "web_search_result_location";

/// Reads a citation.
pub(super) fn decode(value: Value) -> Citation {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    match text("url").filter(|_| value["type"] == WEB) {
        Some(url) => {
            Citation::Url { url, title: text("title"), cited_text: text("cited_text"), span: None, raw: value }
        }
        None => Citation::Other(value),
    }
}

/// A citation for a client; none where this shape has no such place. What another provider cites has no
/// `encrypted_index`, and so cannot be sent on to Anthropic: see [`for_provider`].
pub(super) fn for_client(citation: &Citation) -> Option<Value> {
    match citation {
        Citation::Url { raw, .. } if is_own(raw) => Some(raw.clone()),
        Citation::Url { url, title, cited_text, .. } => Some(json!({
            "type": WEB,
            "url": url,
            "title": title,
            "cited_text": cited_text.as_deref().unwrap_or_default(),
            "encrypted_index": "",
        })),
        Citation::Other(value) => is_own(value).then(|| value.clone()),
    }
}

/// A citation of an earlier answer, as its provider gave it; none where another gave it.
pub(super) fn for_provider(citation: &Citation) -> Option<Value> {
    let (Citation::Url { raw: value, .. } | Citation::Other(value)) = citation;
    (is_own(value) && value["encrypted_index"] != "").then(|| value.clone())
}

fn is_own(value: &Value) -> bool {
    value["type"].as_str().is_some_and(|kind| kind.ends_with("_location"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_of_the_web_goes_there_and_back_as_it_stood() {
        let value = json!({"type": WEB, "url": "https://a", "title": "t", "cited_text": "c", "encrypted_index": "x"});
        let citation = decode(value.clone());
        assert!(matches!(&citation, Citation::Url { url, .. } if url == "https://a"));
        assert_eq!(for_client(&citation), Some(value.clone()));
        assert_eq!(for_provider(&citation), Some(value));
    }

    #[test]
    fn a_foreign_citation_reaches_the_client_but_not_the_provider() {
        let raw = json!({"type": "url_citation", "url_citation": {"url": "https://a"}});
        let citation = Citation::Url { url: "https://a".into(), title: None, cited_text: None, span: None, raw };
        let shown = for_client(&citation).expect("a place on the web");
        assert_eq!(shown["url"], "https://a");
        assert_eq!(for_provider(&citation), None);
        assert_eq!(for_provider(&decode(shown)), None);
    }
}
