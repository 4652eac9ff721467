//! Finish reasons, both ways.

use serde_json::{Value, json};

use crate::answer::{Stop, StopReason};

/// What is said to callers whose model declined without words.
const DECLINED: &str = "The model declined to respond.";

/// Why a choice ended. Models that were forced to call a tool say `stop`, and so do those that declined: what the choice
/// holds tells more than the word.
pub(super) fn decode(word: &str, calls: bool, refusal: Option<&str>) -> Stop {
    let reason = match word {
        "stop" | "eos" => match refusal {
            Some(text) => return refused(text),
            None if calls => StopReason::ToolUse,
            None => StopReason::EndTurn,
        },
        "length" => StopReason::MaxTokens,
        "tool_calls" | "function_call" => StopReason::ToolUse,
        "content_filter" => StopReason::ContentFilter,
        "model_length" => StopReason::ContextWindow,
        other => StopReason::Unknown(other.to_owned()),
    };
    Stop::new(reason)
}

fn refused(text: &str) -> Stop {
    let details = json!({"type": "refusal", "category": null, "explanation": text});
    Stop { details: Some(details), ..Stop::new(StopReason::Refusal) }
}

/// The finish reason in chat's words, and whether it is only close.
pub(super) fn encode(reason: &StopReason) -> (&'static str, bool) {
    match reason {
        StopReason::EndTurn | StopReason::StopSequence => ("stop", false),
        StopReason::MaxTokens | StopReason::ContextWindow => ("length", false),
        StopReason::ToolUse => ("tool_calls", false),
        StopReason::Refusal | StopReason::ContentFilter => ("content_filter", false),
        StopReason::Compaction => ("stop", false),
        StopReason::PauseTurn | StopReason::Unknown(_) => ("stop", true),
    }
}

/// What the model said of its refusal.
pub(super) fn explanation(stop: &Stop) -> &str {
    let details = stop.details.as_ref().unwrap_or(&Value::Null);
    details["explanation"].as_str().filter(|text| !text.is_empty()).unwrap_or(DECLINED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_choice_holds_tells_more_than_the_word_stop() {
        assert_eq!(decode("stop", false, None).reason, StopReason::EndTurn);
        assert_eq!(decode("stop", true, None).reason, StopReason::ToolUse);
        let refused = decode("stop", false, Some("no"));
        assert_eq!((&refused.reason, explanation(&refused)), (&StopReason::Refusal, "no"));
        assert_eq!(decode("length", true, None).reason, StopReason::MaxTokens);
    }

    #[test]
    fn an_unknown_word_never_fails() {
        let unknown = decode("moonphase", false, None).reason;
        assert_eq!(unknown, StopReason::Unknown("moonphase".into()));
        assert_eq!(encode(&unknown), ("stop", true));
    }
}
