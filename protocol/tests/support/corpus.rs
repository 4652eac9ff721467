//! The recorded corpus: pairs of requests and answers, one JSON object a line. Where it is says `RELAY_CORPUS`.

use std::{fs, path::PathBuf};

use protocol::WireShape;
use serde_json::Value;

/// A recorded pair.
pub(crate) struct Pair {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) shape: WireShape,
    pub(crate) status: u16,
    pub(crate) stream: bool,
    pub(crate) request: Option<Value>,
    pub(crate) answer: Vec<u8>,
}

impl Pair {
    /// The request as bytes.
    pub(crate) fn request_body(&self) -> Option<Vec<u8>> {
        self.request.as_ref().map(|request| request.to_string().into_bytes())
    }

    /// Whether the upstream answered, in a stream or not.
    pub(crate) fn is_answer(&self, stream: bool) -> bool {
        self.status == 200 && self.stream == stream
    }
}

/// All pairs of both shapes; none: there is no corpus here.
pub(crate) fn load() -> Option<Vec<Pair>> {
    let directory = PathBuf::from(std::env::var_os("RELAY_CORPUS")?);
    let files =
        [("openai.chat.jsonl", WireShape::OpenaiChat), ("anthropic.messages.jsonl", WireShape::AnthropicMessages)];
    let mut pairs = Vec::new();
    for (file, shape) in files {
        let path = directory.join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        pairs.extend(lines.filter(is_of_its_shape).map(|line| pair(line, shape)));
    }
    Some(pairs)
}

/// A few calls of OpenAI's Assistants (`/threads/…/messages`) stand among the Messages of Anthropic.
fn is_of_its_shape(line: &Value) -> bool {
    !line["url"].as_str().unwrap_or_default().contains("/threads/")
}

fn pair(mut line: Value, shape: WireShape) -> Pair {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Pair {
        id: format!("{}@{}", text(&line["id"]), text(&line["repo"])),
        provider: text(&line["provider"]),
        shape,
        status: line["status"].as_u64().and_then(|status| u16::try_from(status).ok()).unwrap_or_default(),
        stream: line["stream"].as_bool().unwrap_or_default(),
        request: line.get_mut("request").map(Value::take).filter(Value::is_object),
        answer: match line.get("response_text") {
            Some(Value::String(text)) => text.clone().into_bytes(),
            _ => line["response"].to_string().into_bytes(),
        },
    }
}
