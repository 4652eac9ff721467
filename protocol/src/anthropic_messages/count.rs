//! Counting the tokens of a request without running it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Refusal;

/// The fields of a request that a count takes. Everything else of a Messages request would be refused there.
const COUNTED: [&str; 9] = [
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "context_management",
    "mcp_servers",
];

/// The body of a count, made of that of a request of this shape: `model` is the upstream's, what a count does not take
/// is left out, and everything else keeps its bytes.
pub fn encode_count(body: &[u8], model: &str) -> Result<Vec<u8>, Refusal> {
    type Fields<'a> = indexmap::IndexMap<String, &'a RawValue>;
    let refusal =
        |error| Refusal { param: None, message: format!("the body is not valid JSON: {error}"), malformed: true };
    let mut fields: Fields = serde_json::from_slice(body).map_err(refusal)?;
    fields.retain(|key, _| COUNTED.contains(&key.as_str()));
    let model = serde_json::value::to_raw_value(model).expect("a string is JSON");
    fields.insert("model".to_owned(), &model);
    Ok(serde_json::to_vec(&fields).expect("a map of raw JSON is JSON"))
}

/// The tokens that a count gave; none where the body is no count.
pub fn decode_count(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    serde_json::from_slice::<Count>(body).ok().map(|count| count.input_tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_asks_of_what_is_read_alone() {
        let body = br#"{"model":"mine","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"\u0041 1.0"}],"system":"s"}"#;
        let sent = encode_count(body, "claude").expect("good");
        let wanted = r#"{"messages":[{"role":"user","content":"\u0041 1.0"}],"system":"s","model":"claude"}"#;
        assert_eq!(String::from_utf8(sent).expect("text"), wanted);
    }

    #[test]
    fn reads_a_count_and_nothing_else() {
        assert_eq!(decode_count(br#"{"input_tokens": 14, "context_management": null}"#), Some(14));
        assert_eq!(decode_count(b"{}"), None);
        assert_eq!(decode_count(b"<html>"), None);
    }
}
