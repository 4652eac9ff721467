//! Reads and writes chat usage. The only place that knows which of a chat host's counts lie inside which.

use crate::{
    json::{Json, json},
    usage::Usage,
};

/// No answer has more tokens; sums of counts up to it cannot overflow.
const MOST: u64 = 1 << 40;

/// The usage of an answer or a chunk, wherever the dialect puts it; none where nothing is said.
pub(super) fn decode(answer: &Json<'_>) -> Option<Usage> {
    of([&answer["usage"], &answer["x_groq"]["usage"]].into_iter().find(|usage| usage.is_object())?)
}

/// What a usage object says.
pub(super) fn of(usage: &Json<'_>) -> Option<Usage> {
    let says = |key: &str| usage[key].is_number();
    (says("prompt_tokens") || says("completion_tokens") || says("total_tokens")).then(|| normalised(usage))
}

fn normalised(usage: &Json<'_>) -> Usage {
    let (prompt_details, output_details) = (&usage["prompt_tokens_details"], &usage["completion_tokens_details"]);
    let (mut prompt, mut output) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"]));
    let reasoning = first(&[&output_details["reasoning_tokens"], &usage["reasoning_tokens"]]);
    let audio_input = count(&prompt_details["audio_tokens"]);
    let unaccounted = count(&usage["total_tokens"]).saturating_sub(prompt + output);
    // Some hosts count reasoning outside the completion, or sound outside the prompt: the total tells.
    if unaccounted > 0 && unaccounted == reasoning {
        output += reasoning;
    } else if unaccounted > 0 && unaccounted == audio_input {
        prompt += audio_input;
    }
    let cache_read = cache_read(usage, prompt);
    let written = first(&[&prompt_details["cache_write_tokens"], &usage["cache_creation_input_tokens"]]);
    let written = written.min(prompt - cache_read);
    let longer = &usage["cache_creation"];
    let cache_write_1h = count(&longer["ephemeral_1h_input_tokens"]) + count(&longer["ephemeral_24h_input_tokens"]);
    let cache_write_1h = cache_write_1h.min(written);
    Usage {
        input: prompt - cache_read - written,
        cache_read,
        cache_write_5m: written - cache_write_1h,
        cache_write_1h,
        output,
        reasoning: reasoning.min(output),
        audio_input: audio_input.min(prompt),
        audio_output: count(&output_details["audio_tokens"]).min(output),
        ..Usage::default()
    }
}

/// Tokens read from a cache. More than the whole prompt cannot be: such a count is another thing, and none is believed.
fn cache_read(usage: &Json<'_>, prompt: u64) -> u64 {
    let places = [
        &usage["prompt_tokens_details"]["cached_tokens"],
        &usage["prompt_cache_hit_tokens"],
        &usage["cache_read_input_tokens"],
        &usage["cached_tokens"],
    ];
    Some(first(&places)).filter(|cached| *cached <= prompt).unwrap_or(0)
}

fn first(places: &[&Json<'_>]) -> u64 {
    places.iter().map(|place| count(place)).find(|count| *count > 0).unwrap_or(0)
}

fn count(value: &Json<'_>) -> u64 {
    value.as_u64().or_else(|| value.as_f64().map(|tokens| tokens as u64)).unwrap_or(0).min(MOST)
}

/// Usage in chat's words: the prompt includes what caches gave and took, the completion includes reasoning.
pub(super) fn encode(usage: &Usage) -> Json<'static> {
    let mut prompt = json!({"cached_tokens": usage.cache_read, "audio_tokens": usage.audio_input});
    if usage.cache_write() > 0 {
        prompt.set("cache_write_tokens", usage.cache_write());
    }
    json!({
        "prompt_tokens": usage.input_total(),
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output},
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decoded(answer: Value) -> Option<Usage> {
        decode(&Json::from(&answer))
    }

    fn read(usage: Value) -> Usage {
        decoded(json!({"usage": usage})).unwrap()
    }

    #[test]
    fn caches_lie_inside_the_prompt_and_reasoning_inside_the_completion() {
        let got = read(json!({"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": null},
            "completion_tokens_details": {"reasoning_tokens": 5}}));
        let expected =
            Usage { input: 10, cache_read: 60, cache_write_5m: 30, output: 20, reasoning: 5, ..Usage::default() };
        assert_eq!(got, expected);
        assert_eq!(decoded(json!({"usage": encode(&got).to_value()})), Some(expected));
    }

    #[test]
    fn counts_outside_are_found_by_the_total() {
        let xai = read(json!({"prompt_tokens": 10, "completion_tokens": 35, "total_tokens": 420,
            "completion_tokens_details": {"reasoning_tokens": 375}}));
        assert_eq!((xai.output, xai.reasoning, xai.total()), (410, 375, 420));
        let sound = read(json!({"prompt_tokens": 11, "completion_tokens": 15, "total_tokens": 401,
            "prompt_tokens_details": {"audio_tokens": 375, "cached_tokens": 9}}));
        assert_eq!((sound.input_total(), sound.cache_read, sound.total()), (386, 9, 401));
    }

    #[test]
    fn impossible_counts_never_underflow() {
        let got =
            read(json!({"prompt_tokens": 31, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 161}}));
        assert_eq!((got.input, got.cache_read), (31, 0));
        let got = read(json!({"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6,
            "completion_tokens_details": {"reasoning_tokens": 9}}));
        assert_eq!((got.output, got.reasoning), (5, 5));
        let got = read(json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": -1}));
        assert_eq!(got.total(), 2 * MOST);
    }

    #[test]
    fn every_dialect_has_its_place() {
        let deepseek = read(json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 4}));
        assert_eq!((deepseek.input, deepseek.cache_read), (6, 4));
        let groq = json!({"x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}});
        assert_eq!(decoded(groq).unwrap().total(), 5);
        assert_eq!(decoded(json!({"usage": null})), None);
        assert_eq!(decoded(json!({"usage": {}})), None);
    }
}
