//! Writes how much a model shall reason: a word of effort becomes adaptive thinking or a budget, as the model takes it.

use super::Scope;
use crate::{
    Loss, ReasoningStyle,
    json::{Object, json},
    request::{PartKind, Reasoning, Role, ThinkingMode, Turn},
};

/// The least budget that is taken.
const LEAST_BUDGET: u64 = 1_024;

/// Efforts from the least to the most.
const WORDS: [&str; 6] = ["minimal", "low", "medium", "high", "xhigh", "max"];

/// Writes `thinking` and `output_config.effort`; tells whether the model will think.
pub(super) fn reasoning<'a>(scope: Scope<'a>, cap: u64, body: &mut Object<'a>, losses: &mut Vec<Loss>) -> bool {
    let Some(reasoning) = &scope.request.reasoning else { return false };
    if let Some(mode) = reasoning.mode {
        return said_in_this_shape(reasoning, mode, body);
    }
    let Some(effort) = reasoning.effort.as_deref() else { return false };
    match scope.target.traits.reasoning {
        _ if scope.native() => {
            put_effort(body, effort);
            false
        }
        ReasoningStyle::AdaptiveThinking => adaptive(scope, effort, body, losses),
        ReasoningStyle::BudgetThinking => budget(scope, effort, cap, body, losses),
        ReasoningStyle::Effort => {
            if let Some(word) = nearest(scope, effort, losses) {
                put_effort(body, word);
            }
            false
        }
        ReasoningStyle::None => {
            if effort != "none" {
                losses.push(Loss::dropped(field(scope), "the model is not known to reason"));
            }
            false
        }
    }
}

fn said_in_this_shape<'a>(reasoning: &'a Reasoning, mode: ThinkingMode, body: &mut Object<'a>) -> bool {
    let mut thinking = match mode {
        ThinkingMode::Disabled => json!({"type": "disabled"}),
        ThinkingMode::Adaptive => json!({"type": "adaptive"}),
        ThinkingMode::BetweenTools => json!({"type": "between_tools"}),
        ThinkingMode::Budget(tokens) => json!({"type": "enabled", "budget_tokens": tokens}),
    };
    if let Some(display) = &reasoning.display {
        thinking.set("display", display);
    }
    body.insert("thinking", thinking);
    if let Some(effort) = &reasoning.effort {
        put_effort(body, effort);
    }
    mode != ThinkingMode::Disabled
}

fn adaptive<'a>(scope: Scope<'a>, effort: &'a str, body: &mut Object<'a>, losses: &mut Vec<Loss>) -> bool {
    if effort == "none" {
        body.insert("thinking", json!({"type": "disabled"}));
        return false;
    }
    // Left alone, newer models keep their reasoning to themselves; the caller's shape shows it.
    body.insert("thinking", json!({"type": "adaptive", "display": "summarized"}));
    if let Some(word) = nearest(scope, effort, losses) {
        put_effort(body, word);
    }
    true
}

/// The effort that the model takes next to the wanted one: at most it, else the least. None: it takes none.
fn nearest<'a>(scope: Scope<'a>, effort: &'a str, losses: &mut Vec<Loss>) -> Option<&'a str> {
    let taken = &scope.target.traits.efforts;
    if taken.iter().any(|word| word == effort) {
        return Some(effort);
    }
    let rank = |word: &str| WORDS.iter().position(|known| *known == word);
    let wanted = rank(effort);
    let known = || taken.iter().map(String::as_str).filter(|word| rank(word).is_some());
    let below = known().filter(|word| rank(word) <= wanted).max_by_key(|word| rank(word));
    let chosen = wanted.and(below.or_else(|| known().min_by_key(|word| rank(word))));
    losses.push(match chosen {
        Some(word) => Loss::approximated(field(scope), format!("the model does not take `{effort}`: `{word}`")),
        None => Loss::dropped(field(scope), format!("the model does not take `{effort}`")),
    });
    chosen
}

fn budget(scope: Scope, effort: &str, cap: u64, body: &mut Object<'_>, losses: &mut Vec<Loss>) -> bool {
    let wanted = match effort {
        "none" => {
            body.insert("thinking", json!({"type": "disabled"}));
            return false;
        }
        "minimal" | "low" => LEAST_BUDGET,
        "medium" => 4_096,
        "high" => 16_384,
        "xhigh" => 32_000,
        "max" => u64::MAX,
        _ => {
            losses.push(Loss::dropped(field(scope), format!("`{effort}` is no effort that is known")));
            return false;
        }
    };
    if cap <= LEAST_BUDGET {
        let why = format!("thinking needs an output cap above {LEAST_BUDGET} tokens: it is off");
        losses.push(Loss::approximated(field(scope), why));
        return false;
    }
    if lost_its_thinking(&scope.request.turns) {
        let why = "the last tool calls came back without their reasoning: thinking is off for this answer";
        losses.push(Loss::approximated(field(scope), why));
        return false;
    }
    if wanted != u64::MAX && wanted >= cap {
        losses.push(Loss::clamped(field(scope), format!("reasoning must fit below the output cap of {cap} tokens")));
    }
    body.insert("thinking", json!({"type": "enabled", "budget_tokens": wanted.min(cap - 1)}));
    true
}

/// Whether the conversation goes on from tool calls before which no proven reasoning stands: with a budget, that is
/// refused upstream.
fn lost_its_thinking(turns: &[Turn]) -> bool {
    let Some(last) = turns.iter().rposition(|turn| turn.role == Role::Assistant) else { return false };
    let calls = |turn: &Turn| turn.parts.iter().any(|part| matches!(part.kind, PartKind::ToolCall(_)));
    let is_answered = turns[last..].iter().any(|turn| turn.role == Role::Tool);
    let thinks = |turn: &Turn| super::blocks::begins_with_thinking(&turn.parts);
    calls(&turns[last]) && is_answered && !thinks(&turns[last])
}

fn put_effort<'a>(body: &mut Object<'a>, effort: &'a str) {
    body.object_at("output_config").insert("effort", effort);
}

fn field<'a>(scope: Scope<'a>) -> &'a str {
    scope.word("reasoning_effort", "output_config.effort")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::testing::{call, chat, encoded, named, result, traits, turn, user},
        *,
    };
    use crate::{
        LossKind, Traits,
        request::{Issuer, Opaque, Part, Request},
    };

    fn asks(effort: &str, cap: u64) -> Request {
        let reasoning = Some(Reasoning { effort: Some(effort.into()), ..Reasoning::default() });
        Request { reasoning, output_cap: Some(cap), ..chat() }
    }

    fn adapts() -> Traits {
        let efforts = ["low", "medium", "high", "max"].map(str::to_owned).to_vec();
        Traits { reasoning: ReasoningStyle::AdaptiveThinking, efforts, ..traits() }
    }

    fn budgets() -> Traits {
        Traits { reasoning: ReasoningStyle::BudgetThinking, ..traits() }
    }

    #[test]
    fn an_effort_is_adaptive_thinking_that_is_shown() {
        let (body, losses) = encoded(&asks("high", 100), &adapts());
        assert_eq!(body["thinking"], json!({"type": "adaptive", "display": "summarized"}));
        assert_eq!(body["output_config"], json!({"effort": "high"}));
        assert!(losses.is_empty());
    }

    #[test]
    fn an_effort_that_the_model_does_not_take_becomes_the_nearest() {
        for (asked, sent) in [("minimal", "low"), ("xhigh", "high")] {
            let (body, losses) = encoded(&asks(asked, 100), &adapts());
            assert_eq!(body["output_config"]["effort"], sent);
            assert_eq!(named(&losses), [(LossKind::Approximated, "reasoning_effort")]);
        }
    }

    #[test]
    fn no_effort_is_no_thinking() {
        for traits in [adapts(), budgets()] {
            let (body, losses) = encoded(&asks("none", 100), &traits);
            assert_eq!((&body["thinking"], losses.len()), (&json!({"type": "disabled"}), 0));
        }
    }

    #[test]
    fn an_effort_is_a_budget_below_the_cap() {
        let budget = |effort: &str, cap: u64| {
            let (body, losses) = encoded(&asks(effort, cap), &budgets());
            (body["thinking"]["budget_tokens"].as_u64(), losses.len())
        };
        assert_eq!(budget("low", 60_000), (Some(1_024), 0));
        assert_eq!(budget("medium", 60_000), (Some(4_096), 0));
        assert_eq!(budget("high", 60_000), (Some(16_384), 0));
        assert_eq!(budget("xhigh", 60_000), (Some(32_000), 0));
        assert_eq!(budget("max", 60_000), (Some(59_999), 0));
        assert_eq!(budget("high", 2_000), (Some(1_999), 1));
    }

    #[test]
    fn a_small_cap_leaves_no_room_to_think() {
        let (body, losses) = encoded(&asks("high", 1_024), &budgets());
        assert!(body.get("thinking").is_none());
        assert_eq!(named(&losses), [(LossKind::Approximated, "reasoning_effort")]);
    }

    #[test]
    fn a_model_that_does_not_reason_says_so() {
        let (body, losses) = encoded(&asks("high", 100), &traits());
        assert!(body.get("thinking").is_none() && body.get("output_config").is_none());
        assert_eq!(named(&losses), [(LossKind::Dropped, "reasoning_effort")]);
        assert!(encoded(&asks("none", 100), &traits()).1.is_empty());
    }

    #[test]
    fn calls_that_lost_their_reasoning_turn_a_budget_off() {
        let proof = Some(Opaque { issuer: Issuer::Anthropic, data: "s".into() });
        let thinking = Part::new(PartKind::Thinking { text: "hm".into(), proof });
        let with = |parts: Vec<Part>| Request {
            turns: vec![user("go"), turn(Role::Assistant, parts), result("a", "1")],
            ..asks("low", 9_000)
        };
        let (body, losses) = encoded(&with(vec![call("a", "{}")]), &budgets());
        assert!(body.get("thinking").is_none());
        assert_eq!(named(&losses), [(LossKind::Approximated, "reasoning_effort")]);
        let (body, losses) = encoded(&with(vec![thinking, call("a", "{}")]), &budgets());
        assert_eq!((body["thinking"]["type"].as_str(), losses.len()), (Some("enabled"), 0));
    }

    #[test]
    fn a_model_that_thinks_takes_no_temperature() {
        let mut request = asks("high", 100);
        request.sampling.temperature = Some(serde_json::from_str("0.3").expect("a number"));
        let (body, losses) = encoded(&request, &adapts());
        assert!(body.get("temperature").is_none());
        assert_eq!(named(&losses), [(LossKind::Dropped, "temperature")]);
    }
}
