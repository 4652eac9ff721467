//! Reads what a whole answer says beside its content, where its form is plain: one choice.

use super::{stop, usage};
use crate::{
    skim::{Brief, Content, Kind, NO_MESSAGE, Reader, is_kept, once},
    usage::Usage,
};

/// What the frame of an answer says; none: the decoder tells.
pub(crate) fn brief<'a>(answer: &'a str, content: &mut Content) -> Option<Brief<'a>> {
    let mut reader = Reader::new(answer);
    let (mut id, mut model, mut tokens, mut groq, mut finish) = (None, None, None, None, None);
    reader.object(|reader, key| match key {
        b"id" => once(&mut id, reader.plain()?),
        b"model" => once(&mut model, reader.plain()?),
        b"choices" => once(&mut finish, only_choice(reader, content)?),
        b"usage" => once(&mut tokens, Tokens::read(reader)?),
        b"x_groq" => once(&mut groq, reader.skip()?),
        b"error" => reader.null(),
        b"object" => reader.plain().filter(|object| *object != "error").map(drop),
        key if is_kept(key) => reader.skip().map(drop),
        _ => content.pass(reader, "null"),
    })?;
    reader.end()?;
    let finish: Option<&str> = finish?;
    // Groq's own usage counts where there is no other.
    if groq.is_some() && !matches!(tokens, Some(Tokens::Said(_))) {
        return None;
    }
    Some(Brief {
        id: id.unwrap_or_default(),
        model: model.unwrap_or_default(),
        usage: match tokens {
            Some(Tokens::Said(usage)) => usage,
            Some(Tokens::None) | None => None,
        },
        stop: finish.map(|word| stop::decode(word, false, None).reason),
    })
}

/// The value of `usage`.
enum Tokens {
    /// An object.
    Said(Option<Usage>),
    /// Anything else.
    None,
}

impl Tokens {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.kind()? {
            Kind::Object => usage::read(reader).map(Self::Said),
            _ => reader.skip().map(|_| Self::None),
        }
    }
}

/// Why the only choice ended.
fn only_choice<'a>(reader: &mut Reader<'a>, content: &mut Content) -> Option<Option<&'a str>> {
    let mut finish = None;
    reader.array(|reader| once(&mut finish, choice(reader, content)?))?;
    finish
}

fn choice<'a>(reader: &mut Reader<'a>, content: &mut Content) -> Option<Option<&'a str>> {
    let (mut finish, mut message) = (None, None);
    reader.object(|reader, key| match key {
        b"finish_reason" => once(&mut finish, reader.plain_or_null()?),
        b"message" => once(&mut message, content.pass(reader, NO_MESSAGE)?),
        b"index" => reader.skip().map(drop),
        _ => content.pass(reader, "null"),
    })?;
    message?;
    Some(finish.flatten())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        openai_chat::decode_answer,
        skim::testing::{damages, spoilt, with_each_scrap},
    };

    const FRAMES: &[&str] = &[
        r#"{"id":"c1","object":"chat.completion","created":1700000000,"model":"m1","choices":[{"index":0,"message":{"role":"assistant","content":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":21,"completion_tokens":64,"total_tokens":85,"prompt_tokens_details":{"cached_tokens":3,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":7}},"service_tier":"default","system_fingerprint":null}"#,
        r#"{"choices":[{"finish_reason":"length","message":{"role":"assistant","content":null}}],"error":null,"usage":{"total_tokens":9},"x_groq":{"id":"r","usage":{"prompt_tokens":8}}}"#,
        r#"{"id":"","choices":[{"message":{"role":"assistant","content":null},"finish_reason":null}],"usage":{}}"#,
    ];

    #[test]
    fn plain_answers_are_read() {
        for frame in FRAMES {
            assert!(brief(frame, &mut Content::LeftOut).is_some(), "{frame}");
        }
        let read = brief(FRAMES[0], &mut Content::LeftOut).unwrap();
        assert_eq!((read.id, read.model, read.stop), ("c1", "m1", Some(crate::answer::StopReason::EndTurn)));
        assert_eq!(read.usage.unwrap().total(), 85);
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_decoder() {
        let frames = [
            r#"{"error":{"message":"no"}}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":[{"message":{"role":"assistant","content":"x"}}]}"#,
            r#"{"id":"\u0061","choices":[{"message":{"role":"assistant","content":null}}]}"#,
            r#"{"id":"a","id":"b","choices":[{"message":{"role":"assistant","content":null}}]}"#,
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
