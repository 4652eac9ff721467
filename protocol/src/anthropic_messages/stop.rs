//! Why an answer ended, in this shape's words.

use serde_json::{Value, json};

use crate::answer::{Stop, StopReason};

/// A reason in canonical form.
pub(super) fn decode(word: &str) -> StopReason {
    match word {
        "end_turn" => StopReason::EndTurn,
        "stop_sequence" => StopReason::StopSequence,
        "max_tokens" => StopReason::MaxTokens,
        "tool_use" => StopReason::ToolUse,
        "refusal" => StopReason::Refusal,
        "pause_turn" => StopReason::PauseTurn,
        "model_context_window_exceeded" => StopReason::ContextWindow,
        "compaction" => StopReason::Compaction,
        other => StopReason::Unknown(other.to_owned()),
    }
}

/// What an answer holds that its reason must agree with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Whether a tool is called.
    pub(super) calls: bool,
    /// The words in which the model declined, where it did; may be empty.
    pub(super) refusal: Option<String>,
}

/// `stop_reason`, `stop_sequence` and, where the model declined, `stop_details`.
pub(super) fn encode(stop: Option<&Stop>, held: &Held) -> (&'static str, Option<String>, Option<Value>) {
    let reason = stop.map_or(&StopReason::EndTurn, |stop| &stop.reason);
    let word = word(reason, held);
    let sequence = stop.and_then(|stop| stop.sequence.clone()).filter(|_| word == "stop_sequence");
    let details = stop.and_then(|stop| stop.details.clone()).filter(Value::is_object);
    let explained = held.refusal.as_ref().filter(|_| word == "refusal");
    let explain = |text| json!({"type": "refusal", "category": null, "explanation": text});
    (word, sequence, details.or_else(|| explained.map(explain)))
}

/// Other shapes end a forced call with plain `stop`, and a refusal too: what the answer holds decides.
fn word(reason: &StopReason, held: &Held) -> &'static str {
    match reason {
        StopReason::StopSequence => "stop_sequence",
        StopReason::MaxTokens => "max_tokens",
        StopReason::Refusal | StopReason::ContentFilter => "refusal",
        StopReason::PauseTurn => "pause_turn",
        StopReason::ContextWindow => "model_context_window_exceeded",
        StopReason::Compaction => "compaction",
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Unknown(_) if held.refusal.is_some() => "refusal",
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Unknown(_) if held.calls => "tool_use",
        StopReason::EndTurn | StopReason::ToolUse | StopReason::Unknown(_) => "end_turn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_this_shape_comes_back() {
        let words = ["end_turn", "stop_sequence", "max_tokens", "refusal", "pause_turn", "compaction"];
        for wire in words.into_iter().chain(["model_context_window_exceeded"]) {
            assert_eq!(encode(Some(&Stop::new(decode(wire))), &Held::default()).0, wire);
        }
        let calls = Held { calls: true, refusal: None };
        assert_eq!(encode(Some(&Stop::new(decode("tool_use"))), &calls).0, "tool_use");
    }

    #[test]
    fn a_call_makes_a_plain_stop_a_tool_use_but_not_a_reached_cap() {
        let calls = Held { calls: true, refusal: None };
        assert_eq!(encode(Some(&Stop::new(StopReason::EndTurn)), &calls).0, "tool_use");
        assert_eq!(encode(Some(&Stop::new(StopReason::MaxTokens)), &calls).0, "max_tokens");
        assert_eq!(encode(None, &Held::default()).0, "end_turn");
    }

    #[test]
    fn a_refusal_explains_itself() {
        let held = Held { calls: false, refusal: Some("I cannot".into()) };
        let (word, _, details) = encode(Some(&Stop::new(StopReason::EndTurn)), &held);
        assert_eq!(word, "refusal");
        assert_eq!(details, Some(json!({"type": "refusal", "category": null, "explanation": "I cannot"})));
    }

    #[test]
    fn an_unknown_reason_never_fails() {
        assert_eq!(decode("novel"), StopReason::Unknown("novel".into()));
        assert_eq!(encode(Some(&Stop::new(decode("novel"))), &Held::default()).0, "end_turn");
    }
}
