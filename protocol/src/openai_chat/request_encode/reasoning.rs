//! Writes how much to reason: one word of effort, moved to the nearest that the model takes.

use super::ledger::{Field, Ledger};
use crate::{
    Refusal, Strictness,
    json::Object,
    request::{Reasoning, ThinkingMode},
};

/// All words of effort, least first.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

const NONE: &str = "none";

/// Writes `reasoning_effort`.
pub(super) fn encode(ledger: &mut Ledger<'_>, body: &mut Object<'_>) -> Result<(), Refusal> {
    let asked = ledger.request.reasoning.clone().unwrap_or_default();
    let effort = match ledger.target.traits.efforts.is_empty() {
        true => {
            refuse_to_reason(ledger, &asked)?;
            None
        }
        false => wanted(ledger, &asked)?,
    };
    let effort = with_tools(ledger, effort, body.contains_key("tools"))?;
    body.put("reasoning_effort", effort);
    Ok(())
}

/// The model does not reason: whoever asked for it must know.
fn refuse_to_reason(ledger: &mut Ledger<'_>, asked: &Reasoning) -> Result<(), Refusal> {
    let on = asked.mode.is_some_and(|mode| mode != ThinkingMode::Disabled);
    if on {
        ledger.dropped(Field::Thinking, "the model is not known to reason on request")?;
    }
    match asked.effort.as_deref() {
        None | Some(NONE) => Ok(()),
        Some(_) => ledger.dropped(Field::Effort, "the model is not known to take an effort"),
    }
}

/// The effort that was asked for, in a word that the model takes; none: the provider's default.
fn wanted(ledger: &mut Ledger<'_>, asked: &Reasoning) -> Result<Option<String>, Refusal> {
    match (asked.mode, asked.effort.as_deref()) {
        (Some(ThinkingMode::Disabled), _) => nearest(ledger, Field::Thinking, NONE).map(Some),
        (_, Some(word)) => nearest(ledger, Field::Effort, word).map(Some),
        (Some(ThinkingMode::Budget(tokens)), None) => {
            ledger.approximated(Field::Thinking, "the budget becomes an effort")?;
            nearest(ledger, Field::Thinking, of_budget(tokens)).map(Some)
        }
        (Some(ThinkingMode::BetweenTools), None) => {
            ledger.approximated(Field::Thinking, "the model decides when it reasons")?;
            Ok(None)
        }
        (Some(ThinkingMode::Adaptive) | None, None) => Ok(None),
    }
}

fn of_budget(tokens: u64) -> &'static str {
    match tokens {
        0..=1_024 => "low",
        1_025..=8_192 => "medium",
        8_193..=24_576 => "high",
        _ => "xhigh",
    }
}

/// The strongest supported effort that is not above the word, else the weakest above it. Only `none` becomes `none`.
fn nearest(ledger: &mut Ledger<'_>, field: Field, word: &str) -> Result<String, Refusal> {
    let traits = ledger.target.traits;
    if traits.efforts.iter().any(|effort| effort == word) {
        return Ok(word.to_owned());
    }
    let rank = |word: &str| EFFORTS.iter().position(|effort| *effort == word);
    let Some(asked) = rank(word) else {
        return Err(ledger.refuse(field, &format!("`{word}` is no effort that the model takes")));
    };
    let mut taken: Vec<usize> =
        traits.efforts.iter().filter_map(|effort| rank(effort)).filter(|rank| *rank > 0).collect();
    taken.sort_unstable();
    let below = taken.iter().rev().find(|rank| **rank <= asked);
    let Some(nearest) = below.or(taken.first()) else {
        return Err(ledger.refuse(field, "the model takes no effort but `none`"));
    };
    let nearest = EFFORTS[*nearest];
    ledger.clamped(field, &format!("`{word}` becomes `{nearest}`"))?;
    Ok(nearest.to_owned())
}

/// Some models take tools on this shape only while they do not reason, not even by default.
fn with_tools(ledger: &mut Ledger<'_>, effort: Option<String>, tools: bool) -> Result<Option<String>, Refusal> {
    let traits = ledger.target.traits;
    let off = effort.as_deref() == Some(NONE);
    if !tools || traits.chat_tools_with_reasoning || traits.efforts.is_empty() || off {
        return Ok(effort);
    }
    let can_be_off = traits.efforts.iter().any(|effort| effort == NONE);
    if ledger.target.strictness == Strictness::Strict || !can_be_off {
        let advice =
            "the model takes tools on chat completions only without reasoning: ask for effort `none`, or send no tools";
        return Err(ledger.refuse(Field::Tools, advice));
    }
    let field = if effort.is_some() { Field::Effort } else { Field::Tools };
    ledger
        .approximated(field, "the model takes tools on chat completions only without reasoning: it does not reason")?;
    Ok(Some(NONE.to_owned()))
}
