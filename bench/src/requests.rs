//! What applications send, made once: as the SDKs write it, as far as that has a bearing on what it costs.

use serde_json::{Value, json};

/// About so large is the body of [`large`].
pub const LARGE: usize = 200 * 1024;

const TOOLS: usize = 40;

/// A question to the OpenAI endpoint.
pub fn openai(token: &str, streamed: bool) -> Vec<u8> {
    openai_at("", token, streamed)
}

/// The same below a path.
pub fn openai_at(prefix: &str, token: &str, streamed: bool) -> Vec<u8> {
    let model = if prefix.is_empty() { "bench-openai".to_owned() } else { format!("bench-{}", &prefix[1..]) };
    openai_of(prefix, &model, token, streamed)
}

/// The same for a model.
pub fn openai_of(prefix: &str, model: &str, token: &str, streamed: bool) -> Vec<u8> {
    let mut body = json!({
        "model": model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "How are happy families, and how is every unhappy family?"}
        ],
        "max_tokens": 256
    });
    if streamed {
        body["stream"] = json!(true);
        body["stream_options"] = json!({"include_usage": true});
    }
    post(&format!("{prefix}/v1/chat/completions"), &bearer(token), &body)
}

/// A question to the Anthropic endpoint.
pub fn anthropic(token: &str, streamed: bool) -> Vec<u8> {
    anthropic_of("bench-anthropic", token, streamed)
}

/// The same for a model.
pub fn anthropic_of(model: &str, token: &str, streamed: bool) -> Vec<u8> {
    let mut body = json!({
        "model": model,
        "max_tokens": 256,
        "system": "You are a helpful assistant.",
        "messages": [{"role": "user", "content": "How are happy families, and how is every unhappy family?"}]
    });
    if streamed {
        body["stream"] = json!(true);
    }
    post("/v1/messages", &format!("x-api-key: {token}\r\nanthropic-version: 2023-06-01"), &body)
}

/// A question of 200 KB with forty tools, and a conversation that has been going on for a while.
pub fn large(token: &str) -> Vec<u8> {
    large_of(token, LARGE)
}

/// The same of another size.
pub fn large_of(token: &str, bytes: usize) -> Vec<u8> {
    let mut messages = vec![json!({"role": "system", "content": "You are a coding agent."})];
    let mut body = json!({"model": "bench-openai", "max_tokens": 256, "tools": tools()});
    let tools = body.to_string().len();
    let line = "    let answer = \"quoted\\ttext\"; // line of a file that was read\n";
    for turn in 0.. {
        let id = format!("call_{turn}");
        let call = json!({"id": id, "type": "function",
            "function": {"name": "read_file_0", "arguments": format!("{{\"path\":\"src/file_{turn}.rs\"}}")}});
        messages.push(json!({"role": "user", "content": format!("And what does file {turn} do?")}));
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": line.repeat(60)}));
        if tools + json!(messages).to_string().len() >= bytes {
            break;
        }
    }
    body["messages"] = json!(messages);
    post("/v1/chat/completions", &bearer(token), &body)
}

fn tools() -> Vec<Value> {
    let tool = |n: usize| {
        let field =
            |m: usize| (format!("field_{m}"), json!({"type": "string", "description": "What to look for, in words."}));
        let properties: serde_json::Map<String, Value> = (0..12).map(field).collect();
        json!({"type": "function", "function": {
            "name": format!("read_file_{n}"),
            "description": "Reads a file of the project and gives its text, or says why it cannot be read.",
            "parameters": {"type": "object", "properties": properties, "required": ["field_0"], "additionalProperties": false}
        }})
    };
    (0..TOOLS).map(tool).collect()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn post(path: &str, credential: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: gateway\r\n{credential}\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         user-agent: bench\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_large_question_is_as_large_as_is_told() {
        let kilobytes = large("t").len() / 1024;
        assert!((200..208).contains(&kilobytes), "{kilobytes}");
    }
}
