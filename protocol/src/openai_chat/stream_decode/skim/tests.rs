//! Whoever skims a stream knows what the decoder knows, after every chunk.

use proptest::prelude::*;

use super::*;
use crate::{
    event::Event,
    skim::{
        Form,
        testing::{Damage, damages, spoilt, with_each_scrap},
    },
};

const FIRST: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}"#;
const WORDS: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default","system_fingerprint":"fp","choices":[{"index":0,"delta":{"content":" w\u00f6rd\n\ud83d\ude00"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x1"}"#;
const REASONING: &str = r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":" hm"},"finish_reason":null}]}"#;
const CALL: &str = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]},"finish_reason":null}]}"#;
const ARGUMENTS: &str = r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]},"finish_reason":null}]}"#;
const OTHERS: &str = r#"{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":null}]}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const CHUNKS: &[&str] = &[FIRST, WORDS, REASONING, CALL, ARGUMENTS, OTHERS, STOP, USAGE, "[DONE]", ""];

const GOES_ON: [(&[&str], &str); 3] = [(&[FIRST], WORDS), (&[REASONING], REASONING), (&[FIRST, CALL], ARGUMENTS)];

/// What a decoder that skims, one that goes on where it can and one that does neither make of the same frames.
struct Both {
    skimming: StreamDecoder,
    going: StreamDecoder,
    reading: StreamDecoder,
}

impl Both {
    fn new() -> Self {
        Self { skimming: StreamDecoder::new(), going: StreamDecoder::new(), reading: StreamDecoder::new() }
    }

    /// Whether the frame was skimmed; errs where the two do not agree.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<bool, TestCaseError> {
        let mut events = Vec::new();
        self.reading.frame(frame, &mut events);
        let skimmed = self.skimming.skim(frame);
        match skimmed {
            None => self.skimming.frame(frame, &mut Vec::new()),
            Some(bytes) => prop_assert_eq!(Some(bytes), added(&events), "{}: {:?}", frame.data, events),
        }
        let mut told = Vec::new();
        if !self.going.go_on(frame, &mut told) {
            self.going.frame(frame, &mut told);
        }
        prop_assert_eq!(told, events, "{}", frame.data);
        prop_assert_eq!(format!("{:?}", self.skimming), format!("{:?}", self.reading), "{}", frame.data);
        prop_assert_eq!(format!("{:?}", self.going), format!("{:?}", self.reading), "{}", frame.data);
        Ok(skimmed.is_some())
    }

    fn data(&mut self, data: &str) -> bool {
        self.frame(&Frame::new(None, data)).unwrap()
    }
}

/// The bytes of content of events that only go on; none: they do more.
fn added(events: &[Event]) -> Option<usize> {
    use crate::event::Delta::{Arguments, Text, Thinking};
    let size = |event: &Event| match event {
        Event::Delta { delta: Text(text) | Thinking(text) | Arguments(text), .. } => Some(text.len()),
        Event::Logprobs { .. } => Some(0),
        _ => None,
    };
    events.iter().map(size).sum()
}

#[test]
fn what_goes_on_is_taken_without_being_read() {
    for (first, then) in GOES_ON {
        let mut decoder = StreamDecoder::new();
        first.iter().for_each(|data| decoder.frame(&Frame::new(None, data), &mut Vec::new()));
        assert!(decoder.go_on(&Frame::new(None, then), &mut Vec::new()), "{then}");
    }
}

#[test]
fn what_goes_on_is_skimmed() {
    let mut both = Both::new();
    let skimmed = [FIRST, WORDS, WORDS, CALL, ARGUMENTS, STOP, USAGE].map(|data| both.data(data));
    assert_eq!(skimmed, [false, true, true, false, true, false, false]);
}

#[test]
fn reasoning_is_skimmed_until_words_begin() {
    let mut both = Both::new();
    let skimmed = [REASONING, REASONING, WORDS, WORDS, REASONING].map(|data| both.data(data));
    assert_eq!(skimmed, [false, true, false, true, false]);
}

#[test]
fn an_error_event_is_never_skimmed() {
    let mut both = Both::new();
    both.data(FIRST);
    assert!(!both.frame(&Frame::new(Some("error"), WORDS)).unwrap());
}

/// The sense of a text and how long it is, by a walk over all of the event.
fn walked(data: &str) -> Option<(Sense, Text<'_>, Option<Text<'_>>)> {
    chunk(data).map(|(piece, padding)| (piece.sense, piece.text, padding))
}

/// The form of an event, once it was walked over.
fn form_of(data: &str) -> Form<Sense> {
    let (mut form, (sense, text, padding)) = (Form::default(), walked(data).unwrap());
    form.learn(data, sense, text, padding);
    form
}

const PADDED: &str =
    r#"{"id":"c","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}],"obfuscation":"x1"}"#;
const FORMS: &[&str] = &[WORDS, PADDED, REASONING, ARGUMENTS, OTHERS];

#[test]
fn chunks_of_one_form_fill_it() {
    let form = form_of(PADDED);
    let fills = |data: &str| form.fill(data).map(|(_, text)| text.read().unwrap());
    assert_eq!(fills(&PADDED.replace("\"a\"", r#"" \u00e4\"b""#)).as_deref(), Some(" \u{e4}\"b"));
    assert_eq!(fills(&PADDED.replace("x1\"}", "x\\n123\"\n }")).as_deref(), Some("a"));
    for other in ["\"\"", "\"a", "null", "\"a\",\"content\":\"b\"", "\"\u{1}\""] {
        assert_eq!(fills(&PADDED.replace("\"a\"", other)), None, "{other}");
    }
    for other in ["\"x", "1", "\"x\",\"usage\":{}", "\"x\"}"] {
        assert_eq!(fills(&PADDED.replace("\"x1\"", other)), None, "{other}");
    }
    assert!(form_of(WORDS).fill(&WORDS.replace("w\\u00f6rd", "b")).is_some());
    assert!(form_of(ARGUMENTS).fill(&ARGUMENTS.replace(r#"{\"a\":"#, "b")).is_some());
}

#[test]
fn no_field_is_overlooked() {
    for data in FORMS.iter().flat_map(|data| with_each_scrap(data)) {
        let mut both = Both::new();
        for known in [FIRST, CALL, WORDS] {
            both.data(known);
        }
        both.data(&data);
    }
}

fn frames() -> impl Strategy<Value = Vec<(&'static str, Vec<Damage>)>> {
    let whole = prop::sample::select(CHUNKS).prop_map(|data| (data, Vec::new()));
    let damaged = (prop_oneof![prop::sample::select(CHUNKS), prop::sample::select(FORMS)], damages());
    prop::collection::vec(prop_oneof![1 => whole, 2 => damaged], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_skims_knows_what_who_reads_knows(frames in frames(), warm in any::<bool>()) {
        let mut both = Both::new();
        if warm {
            [FIRST, CALL, WORDS].iter().for_each(|data| assert!(both.frame(&Frame::new(None, data)).is_ok()));
        }
        for (data, damages) in &frames {
            both.frame(&Frame::new(None, &spoilt(data, damages)))?;
        }
    }

    #[test]
    fn what_fills_a_form_has_the_sense_that_a_walk_finds(known in prop::sample::select(FORMS), data in prop::sample::select(FORMS), damages in damages()) {
        let data = spoilt(data, &damages);
        if let Some((sense, text)) = form_of(known).fill(&data) {
            let walked = walked(&data).map(|(sense, text, _)| (sense, text.read(), text.bytes));
            prop_assert_eq!(walked, Some((sense, text.read(), text.bytes)), "{}", data);
        }
    }
}
