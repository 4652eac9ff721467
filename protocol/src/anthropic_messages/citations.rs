//! Citations: what a text rests on. Those of the web have a counterpart elsewhere; places in documents are kept as
//! they stand.

use serde_json::Value;

use crate::{
    answer::Citation,
    json::{Json, json},
};

const WEB: &str = "web_search_result_location";

/// Reads a citation.
pub(super) fn decode(citation: &Json<'_>) -> Citation {
    let text = |key: &str| citation[key].as_str().map(str::to_owned);
    let raw = citation.to_value();
    match text("url").filter(|_| citation["type"] == *WEB) {
        Some(url) => Citation::Url { url, title: text("title"), cited_text: text("cited_text"), span: None, raw },
        None => Citation::Other(raw),
    }
}

/// A citation for a client; none where this shape has no such place. What another provider cites has no
/// `encrypted_index`, and so cannot be sent on to Anthropic: see [`for_provider`].
pub(super) fn for_client(citation: &Citation) -> Option<Json<'_>> {
    match citation {
        Citation::Url { raw, .. } if is_own(raw) => Some(raw.into()),
        Citation::Url { url, title, cited_text, .. } => Some(json!({
            "type": WEB,
            "url": url,
            "title": title.as_ref(),
            "cited_text": cited_text.as_deref().unwrap_or_default(),
            "encrypted_index": "",
        })),
        Citation::Other(value) => is_own(value).then(|| value.into()),
    }
}

/// A citation of an earlier answer, as its provider gave it; none where another gave it.
pub(super) fn for_provider(citation: &Citation) -> Option<Json<'_>> {
    let (Citation::Url { raw: value, .. } | Citation::Other(value)) = citation;
    (is_own(value) && value["encrypted_index"] != "").then(|| value.into())
}

fn is_own(value: &Value) -> bool {
    value["type"].as_str().is_some_and(|kind| kind.ends_with("_location"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_citation_of_the_web_goes_there_and_back_as_it_stood() {
        let value = json!({"type": WEB, "url": "https://a", "title": "t", "cited_text": "c", "encrypted_index": "x"});
        let citation = decode(&Json::from(&value));
        assert!(matches!(&citation, Citation::Url { url, .. } if url == "https://a"));
        assert_eq!(for_client(&citation).map(|shown| shown.to_value()), Some(value.clone()));
        assert_eq!(for_provider(&citation).map(|sent| sent.to_value()), Some(value));
    }

    #[test]
    fn a_foreign_citation_reaches_the_client_but_not_the_provider() {
        let raw = json!({"type": "url_citation", "url_citation": {"url": "https://a"}});
        let citation = Citation::Url { url: "https://a".into(), title: None, cited_text: None, span: None, raw };
        let shown = for_client(&citation).expect("a place on the web");
        assert_eq!(shown["url"], *"https://a");
        assert!(for_provider(&citation).is_none());
        assert!(for_provider(&decode(&shown)).is_none());
    }
}
