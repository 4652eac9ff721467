//! Reads what a whole answer says beside its content, where its form is plain.

use super::{stop, usage};
use crate::skim::{Brief, Content, Kind, NO_CONTENT, Reader, is_kept, once};

/// What the frame of an answer says; none: the decoder tells.
pub(crate) fn brief<'a>(answer: &'a str, content: &mut Content) -> Option<Brief<'a>> {
    let mut reader = Reader::new(answer);
    let (mut kind, mut id, mut model, mut blocks, mut tokens, mut reason) = (None, None, None, None, None, None);
    reader.object(|reader, key| match key {
        b"type" => once(&mut kind, reader.plain().filter(|kind| *kind == "message")?),
        b"id" => once(&mut id, reader.plain()?),
        b"model" => once(&mut model, reader.plain()?),
        b"content" if reader.kind()? == Kind::Array => once(&mut blocks, content.pass(reader, NO_CONTENT)?),
        b"usage" => once(&mut tokens, usage::read(reader)?),
        b"stop_reason" => once(&mut reason, reader.plain_or_null()?),
        b"error" | b"content" => None,
        key if is_kept(key) => reader.skip().map(drop),
        _ => content.pass(reader, "null"),
    })?;
    reader.end()?;
    kind.and(blocks)?;
    Some(Brief {
        id: id.unwrap_or_default(),
        model: model.unwrap_or_default(),
        usage: tokens.flatten(),
        stop: reason.flatten().map(stop::decode),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        answer::StopReason,
        anthropic_messages::decode_answer,
        skim::testing::{damages, spoilt, with_each_scrap},
    };

    const FRAMES: &[&str] = &[
        r#"{"id":"msg_1","type":"message","role":"assistant","model":"m1","content":[],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":21,"output_tokens":64,"cache_read_input_tokens":4,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5},"server_tool_use":{"web_search_requests":1},"service_tier":"standard","output_tokens_details":null},"container":null}"#,
        r#"{"type":"message","content":[],"stop_reason":null,"usage":{}}"#,
        r#"{"content":[],"type":"message","stop_reason":"max_tokens"}"#,
    ];

    #[test]
    fn plain_answers_are_read() {
        for frame in FRAMES {
            assert!(brief(frame, &mut Content::LeftOut).is_some(), "{frame}");
        }
        let read = brief(FRAMES[0], &mut Content::LeftOut).unwrap();
        assert_eq!((read.id, read.model, read.stop), ("msg_1", "m1", Some(StopReason::EndTurn)));
        assert_eq!(read.usage.unwrap().total(), 98);
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_decoder() {
        let frames = [
            r#"{"type":"error","content":[]}"#,
            r#"{"type":"message"}"#,
            r#"{"type":"message","content":[{}]}"#,
            r#"{"type":"message","content":[],"error":null}"#,
            r#"{"type":"message","type":"message","content":[]}"#,
            r#"{"typ\u0065":"message","content":[]}"#,
        ];
        for frame in frames {
            assert_eq!(brief(frame, &mut Content::LeftOut), None, "{frame}");
        }
    }

    #[test]
    fn no_field_is_overlooked() {
        for frame in FRAMES.iter().flat_map(|frame| with_each_scrap(frame)) {
            if let Some(read) = brief(&frame, &mut Content::LeftOut) {
                assert_eq!(Ok(read), decode_answer(frame.as_bytes()).as_ref().map(Brief::of), "{frame}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_is_what_the_decoder_reads(frame in prop::sample::select(FRAMES), damages in damages()) {
            let frame = spoilt(frame, &damages);
            if let Some(read) = brief(&frame, &mut Content::LeftOut) {
                let answer = decode_answer(frame.as_bytes());
                prop_assert_eq!(Ok(read), answer.as_ref().map(Brief::of), "{}", frame);
            }
        }
    }
}
