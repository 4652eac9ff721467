//! Whoever skims a stream knows what the decoder knows, after every event.

use proptest::prelude::*;

use super::*;
use crate::{
    event::Event,
    skim::{
        Form,
        testing::{Damage, damages, spoilt, with_each_scrap},
    },
};

const START: &str = r#"{"type":"message_start","message":{"id":"m","model":"c","content":[],"usage":{"input_tokens":2,"output_tokens":1}}}"#;
const TEXT_BEGINS: &str = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const TEXT: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" w\u00f6rd\n\ud83d\ude00"}}"#;
const THINKING_BEGINS: &str =
    r#"{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":""}}"#;
const THINKING: &str = r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"hm"}}"#;
const PROOF: &str = r#"{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"s"}}"#;
const CALL_BEGINS: &str =
    r#"{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
const INPUT: &str =
    r#"{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"a\""}}"#;
const TEXT_ENDS: &str = r#"{"type":"content_block_stop","index":0}"#;
const STOP: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}"#;
const END: &str = r#"{"type":"message_stop"}"#;
const EVENTS: &[&str] = &[
    START,
    TEXT_BEGINS,
    TEXT,
    THINKING_BEGINS,
    THINKING,
    PROOF,
    CALL_BEGINS,
    INPUT,
    TEXT_ENDS,
    STOP,
    END,
    "",
    r#"{"type":"ping"}"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#,
];

const GOES_ON: (&[&str], &[&str]) = (&[START, TEXT_BEGINS, THINKING_BEGINS, CALL_BEGINS], &[TEXT, THINKING, INPUT]);

/// What a decoder that skims, one that goes on where it can and one that does neither make of the same frames.
#[derive(Default)]
struct Both {
    skimming: StreamDecoder,
    going: StreamDecoder,
    reading: StreamDecoder,
}

impl Both {
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
        _ => None,
    };
    events.iter().map(size).sum()
}

#[test]
fn what_goes_on_is_taken_without_being_read() {
    let (first, then) = GOES_ON;
    let mut decoder = StreamDecoder::new();
    first.iter().for_each(|data| decoder.frame(&Frame::new(None, data), &mut Vec::new()));
    for data in then {
        assert!(decoder.go_on(&Frame::new(None, data), &mut Vec::new()), "{data}");
    }
}

#[test]
fn what_goes_on_is_skimmed() {
    let mut both = Both::default();
    let events = [START, TEXT_BEGINS, TEXT, TEXT_ENDS, THINKING_BEGINS, THINKING, PROOF, CALL_BEGINS, INPUT, STOP, END];
    let skimmed: Vec<&str> = events.into_iter().filter(|data| both.data(data)).collect();
    assert_eq!(skimmed, [TEXT, THINKING, INPUT]);
}

#[test]
fn a_delta_of_what_is_not_open_is_read() {
    let mut both = Both::default();
    assert_eq!([START, TEXT, TEXT, TEXT_ENDS, TEXT].map(|data| both.data(data)), [false, false, true, false, false]);
}

/// The sense of a text and how long it is, by a walk over all of the event.
fn walked(data: &str) -> Option<(Sense, Text<'_>, Option<Text<'_>>)> {
    block_delta(data).map(|piece| (piece.sense, piece.text, None))
}

/// The form of an event, once it was walked over.
fn form_of(data: &str) -> Form<Sense> {
    let (mut form, (sense, text, padding)) = (Form::default(), walked(data).unwrap());
    form.learn(data, sense, text, padding);
    form
}

const FORMS: &[&str] = &[TEXT, THINKING, INPUT];

#[test]
fn events_of_one_form_fill_it() {
    let form = form_of(TEXT);
    let fills = |data: &str| form.fill(data).map(|(_, text)| text.read().unwrap());
    assert_eq!(fills(&TEXT.replace("w\\u00f6rd", "x\\\"")).as_deref(), Some(" x\"\n\u{1f600}"));
    assert_eq!(fills(&TEXT.replace("}}", "}      }")).as_deref(), Some(" w\u{f6}rd\n\u{1f600}"));
    for other in ["\"}", "\"}}}", "\"},\"usage\":1}", "\",\"text\":\"b\"}}", "}}"] {
        assert_eq!(fills(&TEXT.replace("\"}}", other)), None, "{other}");
    }
    assert_eq!(fills(&TEXT.replace("\"index\":0", "\"index\":1")), None);
}

#[test]
fn no_field_is_overlooked() {
    for data in FORMS.iter().flat_map(|data| with_each_scrap(data)) {
        let mut both = Both::default();
        for known in [START, TEXT_BEGINS, THINKING_BEGINS, CALL_BEGINS] {
            both.data(known);
        }
        both.data(&data);
    }
}

fn frames() -> impl Strategy<Value = Vec<(&'static str, Vec<Damage>)>> {
    let whole = prop::sample::select(EVENTS).prop_map(|data| (data, Vec::new()));
    let damaged = (prop::sample::select(EVENTS), damages());
    prop::collection::vec(prop_oneof![1 => whole, 2 => damaged], 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_skims_knows_what_who_reads_knows(frames in frames(), warm in any::<bool>(), name in prop::option::of("content_block_delta|error")) {
        let mut both = Both::default();
        if warm {
            [START, TEXT_BEGINS, THINKING_BEGINS, CALL_BEGINS].iter().for_each(|data| assert!(both.frame(&Frame::new(None, data)).is_ok()));
        }
        for (data, damages) in &frames {
            both.frame(&Frame::new(name.as_deref(), &spoilt(data, damages)))?;
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
