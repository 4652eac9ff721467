//! Reads and writes chat usage. The only place that knows which of a chat host's counts lie inside which.

use crate::{
    json::{Json, Object, json},
    skim::{Kind, Reader, once},
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
    let mut counts = Counts::default();
    for (name, value) in usage.as_object()?.iter() {
        match Part::of(name.as_bytes()) {
            None => counts.take(Part::All, name.as_bytes(), value),
            Some(part) => {
                let inner = value.as_object().into_iter().flat_map(Object::iter);
                inner.for_each(|(name, value)| counts.take(part, name.as_bytes(), value));
            }
        }
    }
    counts.usage()
}

/// What the usage object says that comes next, where it is of plain form; none: [`of`] tells.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Usage>> {
    let (mut counts, mut parts) = (Counts::default(), [None; 3]);
    reader.object(|reader, name| match Part::of(name) {
        None => counts.read(Part::All, name, reader),
        Some(part) => {
            once(&mut parts[part as usize], ())?;
            match reader.kind()? {
                Kind::Object => reader.object(|reader, name| counts.read(part, name, reader)),
                _ => reader.skip().map(drop),
            }
        }
    })?;
    Some(counts.usage())
}

/// A part of a usage object.
#[derive(Clone, Copy, Debug)]
enum Part {
    PromptDetails,
    CompletionDetails,
    CacheCreation,
    All,
}

impl Part {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"prompt_tokens_details" => Some(Self::PromptDetails),
            b"completion_tokens_details" => Some(Self::CompletionDetails),
            b"cache_creation" => Some(Self::CacheCreation),
            _ => None,
        }
    }
}

/// What any dialect counts, under the name of its field; absent where nothing stands.
#[derive(Debug, Default)]
struct Counts {
    /// Whether one of the three that make it usage is a number.
    said: bool,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    prompt_cache_hit_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    prompt_audio: Option<u64>,
    prompt_cached: Option<u64>,
    prompt_written: Option<u64>,
    output_reasoning: Option<u64>,
    output_audio: Option<u64>,
    written_1h: Option<u64>,
    written_24h: Option<u64>,
}

impl Counts {
    fn place(&mut self, part: Part, name: &[u8]) -> Option<&mut Option<u64>> {
        Some(match (part, name) {
            (Part::All, b"prompt_tokens") => &mut self.prompt_tokens,
            (Part::All, b"completion_tokens") => &mut self.completion_tokens,
            (Part::All, b"total_tokens") => &mut self.total_tokens,
            (Part::All, b"reasoning_tokens") => &mut self.reasoning_tokens,
            (Part::All, b"prompt_cache_hit_tokens") => &mut self.prompt_cache_hit_tokens,
            (Part::All, b"cache_read_input_tokens") => &mut self.cache_read_input_tokens,
            (Part::All, b"cached_tokens") => &mut self.cached_tokens,
            (Part::All, b"cache_creation_input_tokens") => &mut self.cache_creation_input_tokens,
            (Part::PromptDetails, b"audio_tokens") => &mut self.prompt_audio,
            (Part::PromptDetails, b"cached_tokens") => &mut self.prompt_cached,
            (Part::PromptDetails, b"cache_write_tokens") => &mut self.prompt_written,
            (Part::CompletionDetails, b"reasoning_tokens") => &mut self.output_reasoning,
            (Part::CompletionDetails, b"audio_tokens") => &mut self.output_audio,
            (Part::CacheCreation, b"ephemeral_1h_input_tokens") => &mut self.written_1h,
            (Part::CacheCreation, b"ephemeral_24h_input_tokens") => &mut self.written_24h,
            _ => return None,
        })
    }

    /// Takes a field of a part.
    fn take(&mut self, part: Part, name: &[u8], value: &Json<'_>) {
        let Some(place) = self.place(part, name) else { return };
        *place = Some(count(value));
        self.said |= value.is_number() && is_told(part, name);
    }

    /// The same of a field that is about to be read. A name that stands twice is for [`of`].
    fn read(&mut self, part: Part, name: &[u8], reader: &mut Reader<'_>) -> Option<()> {
        let Some(place) = self.place(part, name) else { return reader.skip().map(drop) };
        if reader.takes_null()? {
            return once(place, 0);
        }
        once(place, reader.count()?.min(MOST))?;
        self.said |= is_told(part, name);
        Some(())
    }

    fn usage(&self) -> Option<Usage> {
        self.said.then(|| self.normalised())
    }

    fn normalised(&self) -> Usage {
        let (mut prompt, mut output) = (self.prompt_tokens.unwrap_or(0), self.completion_tokens.unwrap_or(0));
        let reasoning = first(&[self.output_reasoning, self.reasoning_tokens]);
        let audio_input = self.prompt_audio.unwrap_or(0);
        let unaccounted = self.total_tokens.unwrap_or(0).saturating_sub(prompt + output);
        // Some hosts count reasoning outside the completion, or sound outside the prompt: the total tells.
        if unaccounted > 0 && unaccounted == reasoning {
            output += reasoning;
        } else if unaccounted > 0 && unaccounted == audio_input {
            prompt += audio_input;
        }
        let cache_read = self.cache_read(prompt);
        let written = first(&[self.prompt_written, self.cache_creation_input_tokens]).min(prompt - cache_read);
        let cache_write_1h = self.written_1h.unwrap_or(0) + self.written_24h.unwrap_or(0);
        let cache_write_1h = cache_write_1h.min(written);
        Usage {
            input: prompt - cache_read - written,
            cache_read,
            cache_write_5m: written - cache_write_1h,
            cache_write_1h,
            output,
            reasoning: reasoning.min(output),
            audio_input: audio_input.min(prompt),
            audio_output: self.output_audio.unwrap_or(0).min(output),
            ..Usage::default()
        }
    }

    /// Tokens read from a cache. More than the whole prompt cannot be: such a count is another thing, and none is believed.
    fn cache_read(&self, prompt: u64) -> u64 {
        let places =
            [self.prompt_cached, self.prompt_cache_hit_tokens, self.cache_read_input_tokens, self.cached_tokens];
        Some(first(&places)).filter(|cached| *cached <= prompt).unwrap_or(0)
    }
}

/// Whether a number there makes an object usage.
fn is_told(part: Part, name: &[u8]) -> bool {
    matches!((part, name), (Part::All, b"prompt_tokens" | b"completion_tokens" | b"total_tokens"))
}

fn first(places: &[Option<u64>]) -> u64 {
    places.iter().flatten().copied().find(|count| *count > 0).unwrap_or(0)
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
