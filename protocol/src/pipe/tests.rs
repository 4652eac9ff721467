use super::*;
use crate::error::ErrorKind;

const CHAT: WireShape = WireShape::OpenaiChat;
const MESSAGES: WireShape = WireShape::AnthropicMessages;

const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"c1\",\"model\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"c1\",\"model\":\"m1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n",
    "data: [DONE]\n\n",
);

const CHAT_ANSWER: &str = concat!(
    "{\"id\":\"c1\",\"object\":\"chat.completion\",\"model\":\"m1\",\"choices\":[{\"index\":0,",
    "\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":\"stop\"}],",
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}",
);

fn context(stream: bool) -> AnswerContext {
    AnswerContext {
        model: "asked".to_owned(),
        include_usage: true,
        stream,
        fallback_id: "msg_1".to_owned(),
        ..AnswerContext::default()
    }
}

/// What the caller gets of a body that arrives in one piece, and how far the answer has come.
fn carry(pipe: &mut Pipe, body: &str) -> (String, Seen) {
    let mut out = Vec::new();
    pipe.push(Bytes::copy_from_slice(body.as_bytes()), &mut out);
    let seen = pipe.end(&mut out);
    (String::from_utf8(out.concat()).unwrap(), seen)
}

fn failure(mut pipe: Pipe, body: &str) -> (String, ErrorKind) {
    let (out, seen) = carry(&mut pipe, body);
    assert!(!seen.ended, "{body}");
    (out, seen.error.expect(body).kind)
}

#[test]
fn a_stream_of_the_same_shape_keeps_its_bytes_and_its_chunks() {
    let mut pipe = Pipe::same(CHAT, true, false);
    let mut out = Vec::new();
    let frames: Vec<Bytes> = CHAT_STREAM.split_inclusive("\n\n").map(Bytes::from).collect();
    for frame in &frames {
        pipe.push(frame.clone(), &mut out);
    }
    assert_eq!(out, frames);
    assert_eq!(pipe.end(&mut out), Seen { content: true, ended: true, error: None });
    let facts = pipe.facts();
    let usage = Usage { input: 3, output: 2, ..Usage::default() };
    assert_eq!(facts.usage, Some(usage));
    assert_eq!((facts.model.as_deref(), facts.upstream_id.as_deref()), (Some("m1"), Some("c1")));
    assert_eq!((facts.stop, facts.output_bytes), (Some(StopReason::EndTurn), 2));
}

#[test]
fn a_role_is_no_content_and_a_word_is() {
    let mut pipe = Pipe::same(CHAT, true, false);
    let mut frames = CHAT_STREAM.split_inclusive("\n\n").map(Bytes::from);
    let mut next = || pipe.push(frames.next().unwrap(), &mut Vec::new()).content;
    assert_eq!([next(), next()], [false, true]);
}

#[test]
fn usage_that_the_caller_did_not_ask_for_is_hidden_and_read() {
    let expected: String = CHAT_STREAM.split_inclusive("\n\n").filter(|frame| !frame.contains("usage")).collect();
    for size in [1, 40, CHAT_STREAM.len()] {
        let mut pipe = Pipe::same(CHAT, true, true);
        let mut out = Vec::new();
        for piece in CHAT_STREAM.as_bytes().chunks(size) {
            pipe.push(Bytes::from(piece), &mut out);
        }
        pipe.end(&mut out);
        assert_eq!(out.concat(), expected.as_bytes(), "in pieces of {size}");
        assert!(pipe.facts().usage.is_some());
    }
}

#[test]
fn comments_pass_at_once() {
    let mut pipe = Pipe::same(CHAT, true, true);
    let mut out = Vec::new();
    pipe.push(Bytes::from(": processing\n\n"), &mut out);
    assert_eq!(out.concat(), b": processing\n\n");
}

#[test]
fn nothing_of_a_broken_frame_passes() {
    let begun = &CHAT_STREAM[..CHAT_STREAM.find("\"Hi\"").unwrap()];
    let whole_frames = &CHAT_STREAM[..CHAT_STREAM.find("\n\n").unwrap() + 2];
    assert_eq!(failure(Pipe::same(CHAT, true, false), begun).0, whole_frames);
    let garbled = format!("{whole_frames}data: {{oops\n\n");
    assert_eq!(failure(Pipe::same(CHAT, true, false), &garbled).0, whole_frames);
}

#[test]
fn an_error_event_within_a_stream_is_an_error_and_does_not_pass() {
    let chat = "data: {\"error\":{\"message\":\"no capacity\",\"type\":\"server_error\",\"code\":null}}\n\n";
    let messages = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    for (shape, body) in [(CHAT, chat), (MESSAGES, messages)] {
        assert_eq!(failure(Pipe::same(shape, true, false), body).0, "");
        assert_eq!(failure(Pipe::cross(shape, CHAT, true, context(true)), body).0, "");
    }
    assert_eq!(failure(Pipe::same(MESSAGES, true, false), messages).1, ErrorKind::Overloaded);
}

#[test]
fn what_is_no_answer_never_passes() {
    let bodies = [
        "",
        "{}",
        "null",
        "[]",
        "<html><body>Bad Gateway</body></html>",
        "{\"error\":{\"message\":\"no\",\"type\":\"server_error\"}}",
        "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"no\"}}",
        "{\"output\":[],\"object\":\"response\"}",
        "{\"choices\":[]}",
        "{\"id\":\"x\",\"usage\":{\"total_tokens\":1}",
    ];
    for body in bodies {
        for (shape, other) in [(CHAT, MESSAGES), (MESSAGES, CHAT)] {
            let (_, kind) = failure(Pipe::same(shape, false, false), body);
            assert!(
                matches!(kind, ErrorKind::ServerError | ErrorKind::Unreachable | ErrorKind::Overloaded),
                "{body}: {kind:?}"
            );
            for stream in [true, false] {
                assert_eq!(failure(Pipe::cross(shape, other, false, context(stream)), body).0, "", "{body}");
                assert_eq!(failure(Pipe::cross(shape, other, true, context(stream)), body).0, "", "{body}");
            }
            failure(Pipe::same(shape, true, false), body);
        }
    }
}

#[test]
fn a_whole_answer_is_committed_by_its_key_and_passes_untouched() {
    let key = CHAT_ANSWER.find("[{").unwrap();
    let mut pipe = Pipe::same(CHAT, false, false);
    let mut out = Vec::new();
    let seen = pipe.push(Bytes::from(&CHAT_ANSWER[..key]), &mut out);
    assert_eq!(seen, Seen::default());
    let seen = pipe.push(Bytes::from(&CHAT_ANSWER[key..]), &mut out);
    assert!(seen.content && !seen.ended);
    assert!(pipe.end(&mut out).ended);
    assert_eq!(out.concat(), CHAT_ANSWER.as_bytes());
    assert_eq!(pipe.facts().stop, Some(StopReason::EndTurn));
}

#[test]
fn a_whole_answer_that_is_cut_fails_even_after_its_commitment() {
    let cut = &CHAT_ANSWER[..CHAT_ANSWER.len() - 1];
    assert_eq!(failure(Pipe::same(CHAT, false, false), cut).1, ErrorKind::Unreachable);
    failure(Pipe::cross(CHAT, MESSAGES, false, context(false)), cut);
}

#[test]
fn what_hides_its_answer_too_long_is_none() {
    let mut pipe = Pipe::same(CHAT, false, false);
    let body = format!("{{\"padding\":\"{}\"", "x".repeat(300 << 10));
    let pieces = body.as_bytes().chunks(64 << 10).map(Bytes::copy_from_slice);
    let seen: Vec<bool> = pieces.map(|piece| pipe.push(piece, &mut Vec::new()).error.is_some()).collect();
    assert_eq!(seen, [false, false, false, false, true]);
}

#[test]
fn a_stream_is_told_in_the_other_shape() {
    let (out, seen) = carry(&mut Pipe::cross(CHAT, MESSAGES, true, context(true)), CHAT_STREAM);
    assert_eq!(seen, Seen { content: true, ended: true, error: None });
    let names: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
}

#[test]
fn an_answer_becomes_a_stream_and_a_stream_an_answer() {
    let (told, seen) = carry(&mut Pipe::cross(CHAT, MESSAGES, false, context(true)), CHAT_ANSWER);
    assert!(seen.ended && told.contains("event: message_stop"));
    let mut pipe = Pipe::cross(MESSAGES, CHAT, true, context(false));
    let (whole, seen) = carry(&mut pipe, &told);
    assert_eq!(seen, Seen { content: true, ended: true, error: None });
    let answer = crate::codec::decode_answer(CHAT, whole.as_bytes()).unwrap();
    assert_eq!((answer.model.as_str(), answer.usage), ("asked", pipe.facts().usage));
}

#[test]
fn an_answer_that_is_held_whole_is_given_only_once_it_is_complete() {
    let mut pipe = Pipe::cross(CHAT, MESSAGES, true, context(false));
    let mut out = Vec::new();
    let most = CHAT_STREAM.len() - "data: [DONE]\n\n".len();
    assert_eq!(pipe.push(Bytes::from(&CHAT_STREAM[..most]), &mut out), Seen::default());
    assert!(out.is_empty());
    assert!(pipe.push(Bytes::from(&CHAT_STREAM[most..]), &mut out).content);
    assert_eq!(out.len(), 1);
}

#[test]
fn an_answer_that_is_too_large_to_hold_is_an_error() {
    let mut pipe = Pipe::cross(CHAT, MESSAGES, false, context(false));
    let piece = Bytes::from(vec![b' '; 8 << 20]);
    let seen: Vec<bool> = (0..5).map(|_| pipe.push(piece.clone(), &mut Vec::new()).error.is_some()).collect();
    assert_eq!(seen, [false, false, false, false, true]);
}

#[test]
fn a_stop_without_content_is_an_answer() {
    let silent = concat!(
        "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );
    for mut pipe in [Pipe::same(CHAT, true, false), Pipe::cross(CHAT, MESSAGES, true, context(true))] {
        let (_, seen) = carry(&mut pipe, silent);
        assert_eq!(seen, Seen { content: false, ended: true, error: None });
    }
}
