//! What the upstream answers, made once: whole answers of 600 bytes, and streams of 60 events, with usage.

use serde_json::{Value, json};

/// Events of a stream, the one that ends it included.
pub const EVENTS: usize = 60;

/// Bytes of a whole answer's body.
pub const BYTES: usize = 600;

/// A wire shape that the upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
}

/// What an upstream writes, ready to be sent.
#[derive(Debug)]
pub struct Answers {
    /// A whole answer, head and body.
    pub whole: Vec<u8>,
    /// The head of a stream.
    pub stream_head: Vec<u8>,
    /// Its events, each a chunk; the last ends the body.
    pub events: Vec<Vec<u8>>,
}

impl Answers {
    /// Those of a shape, with so many events.
    pub fn of(shape: Shape, events: usize) -> Self {
        let events = match shape {
            Shape::OpenAi => openai_events(events),
            Shape::Anthropic => anthropic_events(events),
        };
        let mut events: Vec<Vec<u8>> = events.iter().map(|event| chunk(event)).collect();
        events.last_mut().into_iter().for_each(|last| last.extend_from_slice(b"0\r\n\r\n"));
        let stream_head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Self { whole: json(200, &whole(shape)), stream_head: stream_head.to_vec(), events }
    }
}

/// An answer that a credential is refused with, again and again.
pub fn refusal() -> Vec<u8> {
    json(
        500,
        &json!({"error": {"message": "the server had an error", "type": "server_error", "code": null}}).to_string(),
    )
}

/// An answer that says to come back in 50 ms, the least that is believed.
pub fn limited() -> Vec<u8> {
    let body = json!({"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}});
    let (body, reason) = (body.to_string(), "Too Many Requests");
    let head = format!("HTTP/1.1 429 {reason}\r\ncontent-type: application/json\r\nretry-after-ms: 50\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The answer to a question for models.
pub fn models() -> Vec<u8> {
    json(200, &json!({"object": "list", "data": []}).to_string())
}

fn json(status: u16, body: &str) -> Vec<u8> {
    let reason = if status == 200 { "OK" } else { "Internal Server Error" };
    let length = body.len();
    format!("HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn whole(shape: Shape) -> String {
    let with = |text: &str| match shape {
        Shape::OpenAi => json!({
            "id": "chatcmpl-0123456789", "object": "chat.completion", "created": 1_700_000_000, "model": "bench-openai",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 21, "completion_tokens": 64, "total_tokens": 85}
        }),
        Shape::Anthropic => json!({
            "id": "msg_0123456789", "type": "message", "role": "assistant", "model": "bench-anthropic",
            "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 21, "output_tokens": 64}
        }),
    };
    let words = "all happy families are alike ".repeat(BYTES / 29 + 1);
    let room = BYTES - with("").to_string().len();
    with(&words[..room]).to_string()
}

fn openai_events(many: usize) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": "bench-openai", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| {
        chunk(json!([{"index": 0, "delta": delta, "finish_reason": finish}]), Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend((0..many - 4).map(|n| delta(json!({"content": format!(" word {n}")}), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    events.push(chunk(json!([]), json!({"prompt_tokens": 21, "completion_tokens": 64, "total_tokens": 85})));
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn anthropic_events(many: usize) -> Vec<String> {
    let named = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    let mut events = vec![
        named(
            json!({"type": "message_start", "message": {"id": "msg_0123456789", "type": "message", "role": "assistant",
            "model": "bench-anthropic", "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 21, "output_tokens": 1}}}),
        ),
        named(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    events.extend((0..many - 5).map(|n| {
        let text = format!(" word {n}");
        named(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}))
    }));
    events.push(named(json!({"type": "content_block_stop", "index": 0})));
    events.push(named(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": 64}})));
    events.push(named(json!({"type": "message_stop"})));
    events
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\r\n", event.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_sizes_that_are_told() {
        for shape in [Shape::OpenAi, Shape::Anthropic] {
            let answers = Answers::of(shape, EVENTS);
            assert_eq!((whole(shape).len(), answers.events.len()), (BYTES, EVENTS), "{shape:?}");
            assert!(answers.whole.ends_with(whole(shape).as_bytes()));
        }
    }
}
