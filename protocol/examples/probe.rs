use bytes::Bytes;
use protocol::{WireShape, pipe::Pipe};
const HEAD: &str = "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench-openai\",\"choices\":[{\"index\":0,\"delta\":";
fn chat(n: usize) -> Vec<Bytes> {
    let c = |d: &str, f: &str| Bytes::from(format!("{HEAD}{d},\"finish_reason\":{f}}}],\"usage\":null}}\n\n"));
    let mut v = vec![c("{\"role\":\"assistant\",\"content\":\"\"}", "null")];
    v.extend((0..n).map(|n| c(&format!("{{\"content\":\" word {n}\"}}"), "null")));
    v.push(c("{}", "\"stop\""));
    v.push(Bytes::from_static(b"data: [DONE]\n\n"));
    v
}
fn messages(n: usize) -> Vec<Bytes> {
    let mut v = vec![Bytes::from_static(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n")];
    v.extend((0..n).map(|n| Bytes::from(format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" word {n}\"}}}}\n\n"))));
    v.push(Bytes::from_static(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    v
}
#[inline(never)]
fn events_chat(pipe: &mut Pipe, all: Vec<Bytes>) {
    let mut out = Vec::new();
    for e in all {
        out.clear();
        pipe.push(e, &mut out);
    }
    pipe.end(&mut out);
}
#[inline(never)]
fn events_messages(pipe: &mut Pipe, all: Vec<Bytes>) {
    let mut out = Vec::new();
    for e in all {
        out.clear();
        pipe.push(e, &mut out);
    }
    pipe.end(&mut out);
}
#[inline(never)]
fn whole_chat(pipe: &mut Pipe, all: Bytes) {
    let mut out = Vec::new();
    pipe.push(all, &mut out);
    pipe.end(&mut out);
    assert!(pipe.facts().usage.is_some());
}
#[inline(never)]
fn whole_messages(pipe: &mut Pipe, all: Bytes) {
    let mut out = Vec::new();
    pipe.push(all, &mut out);
    pipe.end(&mut out);
    assert!(pipe.facts().usage.is_some());
}
fn main() {
    let text = "all happy families are alike ".repeat(14);
    let chat_whole = format!(
        "{{\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench-openai\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":21,\"completion_tokens\":64,\"total_tokens\":85}}}}"
    );
    let messages_whole = format!(
        "{{\"id\":\"msg_0123456789\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench-anthropic\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{{\"input_tokens\":21,\"output_tokens\":64}}}}"
    );
    for _ in 0..2 {
        events_chat(&mut Pipe::same(WireShape::OpenaiChat, true, false), chat(500));
        events_messages(&mut Pipe::same(WireShape::AnthropicMessages, true, false), messages(500));
        for _ in 0..50 {
            whole_chat(&mut Pipe::same(WireShape::OpenaiChat, false, false), Bytes::from(chat_whole.clone()));
            whole_messages(
                &mut Pipe::same(WireShape::AnthropicMessages, false, false),
                Bytes::from(messages_whole.clone()),
            );
        }
    }
}
