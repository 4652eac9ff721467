//! Writes parts of turns as content blocks. Parts that this shape rejects (empty texts) and reasoning that another
//! provider made, or that nobody proves, are left out.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{cache_marks::marked, citations, names, request_encode::Scope};
use crate::{
    Loss, Refusal,
    request::{
        DocumentSource, FieldClass, Issuer, Media, Opaque, OtherField, Part, PartKind, ToolCall, ToolKind, ToolResult,
    },
};

/// Media types of pictures.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The blocks of a turn; `index` is the turn's place in the request, for refusals.
pub(super) fn blocks(
    parts: &[Part],
    index: usize,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Vec<Value>, Refusal> {
    let mut blocks = Vec::with_capacity(parts.len());
    let mut calls = 0;
    for part in parts {
        let block = match &part.kind {
            PartKind::ToolCall(call) => {
                let block = tool_use(call, index, calls, scope)?;
                calls += 1;
                Some(block)
            }
            kind => block(kind, index, scope, losses)?,
        };
        blocks.extend(block.map(|block| marked(block, part.cache.as_ref(), scope, losses)));
    }
    Ok(blocks)
}

/// Whether the first thing that is sent of a turn is reasoning with its provider's proof.
pub(super) fn begins_with_thinking(parts: &[Part]) -> bool {
    parts.iter().any(|part| match &part.kind {
        PartKind::Thinking { proof: Some(proof), .. } | PartKind::RedactedThinking(proof) => is_own(proof),
        _ => false,
    })
}

fn block(kind: &PartKind, index: usize, scope: Scope, losses: &mut Vec<Loss>) -> Result<Option<Value>, Refusal> {
    let block = match kind {
        PartKind::Text { text, citations } => return Ok(text_block(text, citations)),
        PartKind::Refusal(text) => return Ok(text_block(text, &[])),
        PartKind::Image { source, .. } => json!({"type": "image", "source": image(source, scope)?}),
        PartKind::Audio { .. } => return Err(scope.refuse(content(scope, index), "the model hears no audio")),
        PartKind::Document { source, title, context, citations } => {
            let mut block = json!({"type": "document", "source": document(source, index, scope, losses)?});
            for (key, value) in [("title", title), ("context", context)] {
                if let Some(value) = value {
                    block[key] = json!(value);
                }
            }
            cited(block, *citations)
        }
        PartKind::SearchResult { source, title, texts, citations } => {
            let texts: Vec<_> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
            cited(json!({"type": "search_result", "source": source, "title": title, "content": texts}), *citations)
        }
        PartKind::Thinking { text, proof: Some(proof) } if is_own(proof) => {
            json!({"type": "thinking", "thinking": text, "signature": proof.data})
        }
        PartKind::RedactedThinking(opaque) if is_own(opaque) => {
            json!({"type": "redacted_thinking", "data": opaque.data})
        }
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) => return Ok(None),
        PartKind::ToolCall(call) => tool_use(call, index, 0, scope)?,
        PartKind::ToolResult(result) => tool_result(result, index, scope, losses)?,
        PartKind::Raw { value, .. } if scope.native() => value.clone(),
        PartKind::Raw { name, value, class } => return raw(name, value, *class, scope, losses),
    };
    Ok(Some(block))
}

fn is_own(opaque: &Opaque) -> bool {
    opaque.issuer == Issuer::Anthropic
}

/// A text; none where it holds nothing but white space, which is refused upstream.
fn text_block(text: &str, citations: &[crate::answer::Citation]) -> Option<Value> {
    if text.trim().is_empty() {
        return None;
    }
    let mut block = json!({"type": "text", "text": text});
    let citations: Vec<_> = citations.iter().filter_map(citations::for_provider).collect();
    if !citations.is_empty() {
        block["citations"] = json!(citations);
    }
    Some(block)
}

fn cited(mut block: Value, citations: bool) -> Value {
    if citations {
        block["citations"] = json!({"enabled": true});
    }
    block
}

fn image(source: &Media, scope: Scope) -> Result<Value, Refusal> {
    match source {
        Media::Inline { media_type, data } => {
            let media_type = if media_type == "image/jpg" { "image/jpeg" } else { media_type };
            if !scope.native() && !PICTURES.contains(&media_type) {
                let why = format!("`{media_type}` is none of the media types {}", PICTURES.join(", "));
                return Err(scope.refuse(image_field(scope), &why));
            }
            Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
        }
        Media::Url(url) => Ok(json!({"type": "url", "url": url})),
        Media::FileId(id) => file(id, image_field(scope), scope),
    }
}

fn image_field<'a>(scope: Scope<'a>) -> &'a str {
    scope.word("messages.content.image_url", "messages.content.source")
}

fn file_field<'a>(scope: Scope<'a>) -> &'a str {
    scope.word("messages.content.file", "messages.content.source")
}

/// A file in the provider's store. Ids are the provider's own.
fn file(id: &str, field: &str, scope: Scope) -> Result<Value, Refusal> {
    if scope.native() {
        return Ok(json!({"type": "file", "file_id": id}));
    }
    Err(scope.refuse(field, "a file id is known to the provider alone that gave it; send the file itself"))
}

fn document(source: &DocumentSource, index: usize, scope: Scope, losses: &mut Vec<Loss>) -> Result<Value, Refusal> {
    let plain = |text: &str| json!({"type": "text", "media_type": "text/plain", "data": text});
    match source {
        DocumentSource::Text(text) => Ok(plain(text)),
        DocumentSource::Parts(parts) => Ok(json!({"type": "content", "content": blocks(parts, index, scope, losses)?})),
        DocumentSource::Media(Media::Url(url)) => Ok(json!({"type": "url", "url": url})),
        DocumentSource::Media(Media::FileId(id)) => file(id, file_field(scope), scope),
        DocumentSource::Media(Media::Inline { media_type, data }) if media_type == "application/pdf" => {
            Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
        }
        DocumentSource::Media(Media::Inline { media_type, data }) => match text_of(media_type, data) {
            Some(text) => Ok(plain(&text)),
            None => Err(scope.refuse(file_field(scope), &format!("`{media_type}` is neither PDF nor text"))),
        },
    }
}

/// The text of an inline file of text.
fn text_of(media_type: &str, data: &str) -> Option<String> {
    if !media_type.starts_with("text/") && media_type != "application/json" {
        return None;
    }
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

fn tool_use(call: &ToolCall, turn: usize, index: usize, scope: Scope) -> Result<Value, Refusal> {
    let input = match call.kind {
        ToolKind::Custom => json!({"input": call.arguments}),
        ToolKind::Function => match names::input(&call.arguments) {
            Some(input) => input,
            None if scope.native() => names::raw_input(&call.arguments),
            None => {
                let path = format!("messages[{turn}].tool_calls[{index}].function.arguments");
                return Err(scope.refuse(path, "arguments must be a JSON object"));
            }
        },
    };
    let (id, name) = (names::wire_id(&call.id), names::wire_name(&call.name));
    Ok(json!({"type": "tool_use", "id": id, "name": name, "input": input}))
}

fn tool_result(result: &ToolResult, index: usize, scope: Scope, losses: &mut Vec<Loss>) -> Result<Value, Refusal> {
    let mut block = json!({"type": "tool_result", "tool_use_id": names::wire_id(&result.call_id)});
    let content = blocks(&result.content, index, scope, losses)?;
    match content.as_slice() {
        [] => {}
        [Value::Object(only)] if only.len() == 2 && only["type"] == "text" => block["content"] = only["text"].clone(),
        _ => block["content"] = Value::Array(content),
    }
    if let Some(is_error) = result.is_error {
        block["is_error"] = json!(is_error);
    }
    Ok(block)
}

fn raw(
    name: &str,
    value: &Value,
    class: FieldClass,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Option<Value>, Refusal> {
    let field = OtherField { path: format!("messages.content.{name}"), value: value.clone(), class };
    scope.other(&field, losses).map(|()| None)
}

fn content(scope: Scope, index: usize) -> String {
    scope.word("messages", "messages").to_owned() + &format!("[{index}].content")
}
