//! Reads content blocks of a request into parts. A block that no other shape knows is kept as it stands, with what
//! another shape must do with it.

use serde_json::Value;

use super::Others;
use crate::{
    Refusal,
    anthropic_messages::{
        citations,
        fields::{Fields, at, wrong},
        names,
    },
    json::Json,
    request::{
        CacheMark, DocumentSource, FieldClass, Issuer, Media, Opaque, Part, PartKind, ToolCall, ToolKind, ToolResult,
    },
};

/// Types of blocks that have a canonical kind.
const CANONICAL: [&str; 8] =
    ["text", "image", "document", "search_result", "thinking", "redacted_thinking", "tool_use", "tool_result"];

/// A content: a text, or a list of blocks.
pub(super) fn parts(content: Json<'_>, path: &str, others: &mut Others) -> Result<Vec<Part>, Refusal> {
    match content {
        Json::String(text) => Ok(vec![Part::text(text)]),
        Json::Array(blocks) => {
            let block = |(index, block)| part(block, &at(path, index), others);
            blocks.into_iter().enumerate().map(block).collect()
        }
        other => Err(wrong(path, "a string or an array of blocks", &other)),
    }
}

/// A `cache_control`.
pub(super) fn cache_mark(fields: &mut Fields<'_>) -> Result<Option<CacheMark>, Refusal> {
    let Some(mut control) = fields.object("cache_control")? else { return Ok(None) };
    Ok(Some(CacheMark { ttl: control.text("ttl")? }))
}

fn part(block: Json<'_>, path: &str, others: &mut Others) -> Result<Part, Refusal> {
    let foreign = block["type"].as_str().filter(|name| !CANONICAL.contains(name)).map(|_| block.to_value());
    let mut fields = Fields::of(block, path)?;
    let name = fields.required_text("type")?;
    let cache = cache_mark(&mut fields)?;
    let kind = match name.as_str() {
        "text" => text(&mut fields)?,
        "image" => image(&mut fields, others)?,
        "document" => document(&mut fields, others)?,
        "search_result" => search_result(&mut fields)?,
        "thinking" => thinking(&mut fields)?,
        "redacted_thinking" => PartKind::RedactedThinking(opaque(fields.required_text("data")?)),
        "tool_use" => tool_use(&mut fields, others)?,
        "tool_result" => tool_result(&mut fields, others)?,
        _ => return Ok(Part { kind: raw(name, foreign.unwrap_or_default()), cache }),
    };
    others.rest(fields, FieldClass::Silent);
    Ok(Part { kind, cache })
}

/// A block without a canonical kind. Its cache mark is taken off: it is put back with that of the part.
fn raw(name: String, mut value: Value) -> PartKind {
    if let Value::Object(map) = &mut value {
        map.shift_remove("cache_control");
    }
    let class = match name.as_str() {
        // What was compacted, or stands in a container, is content that the answer rests on.
        "compaction" | "container_upload" => FieldClass::Refuse,
        // A tool that is added is among the declared ones; a fallback is a note on who answered.
        "tool_addition" | "fallback" => FieldClass::Silent,
        _ => FieldClass::Drop,
    };
    PartKind::Raw { name, value, class }
}

fn text(fields: &mut Fields<'_>) -> Result<PartKind, Refusal> {
    let text = fields.required_text("text")?;
    let citations = fields.list("citations")?.into_iter().map(|citation| citations::decode(&citation)).collect();
    Ok(PartKind::Text { text, citations })
}

fn image(fields: &mut Fields<'_>, others: &mut Others) -> Result<PartKind, Refusal> {
    let source = source(fields)?;
    let path = source.path("type");
    let Some(source) = media(source)? else { return Err(Refusal::malformed(path, "not a source of an image")) };
    if let Some(transformations) = fields.take("transformations") {
        others.add(&fields.path("transformations"), transformations.to_value(), FieldClass::Drop);
    }
    Ok(PartKind::Image { source, detail: None })
}

fn source<'a>(fields: &mut Fields<'a>) -> Result<Fields<'a>, Refusal> {
    let path = fields.path("source");
    Fields::of(fields.required("source")?, path)
}

/// A source of bytes; none where its type is another.
fn media(mut source: Fields<'_>) -> Result<Option<Media>, Refusal> {
    let kind = source.required_text("type")?;
    media_of(&kind, source)
}

/// A source of bytes of this type.
fn media_of(kind: &str, mut source: Fields<'_>) -> Result<Option<Media>, Refusal> {
    let media = match kind {
        "base64" => {
            Media::Inline { media_type: source.required_text("media_type")?, data: source.required_text("data")? }
        }
        "url" => Media::Url(source.required_text("url")?),
        "file" => Media::FileId(source.required_text("file_id")?),
        _ => return Ok(None),
    };
    Ok(Some(media))
}

fn document(fields: &mut Fields<'_>, others: &mut Others) -> Result<PartKind, Refusal> {
    let path = fields.path("source");
    let mut source = Fields::of(fields.required("source")?, path.as_str())?;
    let source = match source.required_text("type")?.as_str() {
        "text" => DocumentSource::Text(source.required_text("data")?),
        "content" => {
            let content = source.required("content")?;
            DocumentSource::Parts(parts(content, &source.path("content"), others)?)
        }
        kind => match media_of(kind, source)? {
            Some(media) => DocumentSource::Media(media),
            None => return Err(Refusal::malformed(format!("{path}.type"), "not a source of a document")),
        },
    };
    let title = fields.text("title")?;
    let context = fields.text("context")?;
    Ok(PartKind::Document { source, title, context, citations: cites(fields)? })
}

/// Whether `citations` are enabled.
fn cites(fields: &mut Fields<'_>) -> Result<bool, Refusal> {
    let Some(mut citations) = fields.object("citations")? else { return Ok(false) };
    Ok(citations.flag("enabled")?.unwrap_or(false))
}

fn search_result(fields: &mut Fields<'_>) -> Result<PartKind, Refusal> {
    let path = fields.path("content");
    let mut texts = Vec::new();
    for (index, block) in fields.list("content")?.into_iter().enumerate() {
        texts.push(Fields::of(block, at(&path, index))?.required_text("text")?);
    }
    let source = fields.required_text("source")?;
    let title = fields.required_text("title")?;
    Ok(PartKind::SearchResult { source, title, texts, citations: cites(fields)? })
}

fn thinking(fields: &mut Fields<'_>) -> Result<PartKind, Refusal> {
    let text = fields.required_text("thinking")?;
    let proof = fields.text("signature")?.filter(|signature| !signature.is_empty()).map(opaque);
    Ok(PartKind::Thinking { text, proof })
}

fn opaque(data: String) -> Opaque {
    Opaque::untagged(&data, Issuer::Anthropic)
}

fn tool_use(fields: &mut Fields<'_>, others: &mut Others) -> Result<PartKind, Refusal> {
    let id = names::caller_id(&fields.required_text("id")?);
    let name = fields.required_text("name")?;
    let arguments = match fields.take("input") {
        Some(Json::Object(input)) => names::arguments(&input),
        Some(other) => return Err(wrong(&fields.path("input"), "an object", &other)),
        None => "{}".to_owned(),
    };
    toolset(fields, others)?;
    Ok(PartKind::ToolCall(ToolCall { id, name, arguments, kind: ToolKind::Function }))
}

fn tool_result(fields: &mut Fields<'_>, others: &mut Others) -> Result<PartKind, Refusal> {
    let call_id = names::caller_id(&fields.required_text("tool_use_id")?);
    let content = match fields.take("content") {
        Some(content) => parts(content, &fields.path("content"), others)?,
        None => Vec::new(),
    };
    toolset(fields, others)?;
    Ok(PartKind::ToolResult(ToolResult { call_id, content, is_error: fields.flag("is_error")? }))
}

fn toolset(fields: &mut Fields<'_>, others: &mut Others) -> Result<(), Refusal> {
    if let Some(name) = fields.text("toolset_name")? {
        others.add(&fields.path("toolset_name"), Value::String(name), FieldClass::Drop);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(content: Value) -> Vec<Part> {
        parts(Json::from(&content), "content", &mut Others::default()).expect("good content")
    }

    fn only(block: Value) -> PartKind {
        decode(json!([block])).remove(0).kind
    }

    #[test]
    fn carries_signatures_byte_for_byte() {
        let kind = only(json!({"type": "thinking", "thinking": "hm", "signature": "Eq+/=="}));
        let proof = Some(Opaque { issuer: Issuer::Anthropic, data: "Eq+/==".into() });
        assert_eq!(kind, PartKind::Thinking { text: "hm".into(), proof });
    }

    #[test]
    fn gives_tagged_blobs_back_to_their_issuer() {
        let kind = only(json!({"type": "redacted_thinking", "data": "relay1.openai.gAAA"}));
        assert_eq!(kind, PartKind::RedactedThinking(Opaque { issuer: Issuer::OpenAi, data: "gAAA".into() }));
    }

    #[test]
    fn thinking_without_a_signature_is_unproven() {
        let kind = only(json!({"type": "thinking", "thinking": "hm", "signature": ""}));
        assert_eq!(kind, PartKind::Thinking { text: "hm".into(), proof: None });
    }

    #[test]
    fn reads_every_source_of_an_image() {
        let source = |source: Value| match only(json!({"type": "image", "source": source})) {
            PartKind::Image { source, .. } => source,
            other => panic!("{other:?}"),
        };
        let inline = Media::Inline { media_type: "image/png".into(), data: "AA==".into() };
        assert_eq!(source(json!({"type": "base64", "media_type": "image/png", "data": "AA=="})), inline);
        assert_eq!(source(json!({"type": "url", "url": "https://a/b"})), Media::Url("https://a/b".into()));
        assert_eq!(source(json!({"type": "file", "file_id": "f"})), Media::FileId("f".into()));
    }

    #[test]
    fn reads_every_source_of_a_document() {
        let source = |source: Value| match only(json!({"type": "document", "source": source, "title": "t"})) {
            PartKind::Document { source, title, citations: false, .. } if title.as_deref() == Some("t") => source,
            other => panic!("{other:?}"),
        };
        let text = json!({"type": "text", "media_type": "text/plain", "data": "abc"});
        assert_eq!(source(text), DocumentSource::Text("abc".into()));
        let content = json!({"type": "content", "content": [{"type": "text", "text": "x"}]});
        assert_eq!(source(content), DocumentSource::Parts(vec![Part::text("x")]));
        let url = json!({"type": "url", "url": "https://a/b.pdf"});
        assert_eq!(source(url), DocumentSource::Media(Media::Url("https://a/b.pdf".into())));
    }

    #[test]
    fn reads_tool_results_with_pictures_and_failures() {
        let kind = only(json!({"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
            {"type": "text", "text": "no"}, {"type": "image", "source": {"type": "url", "url": "u"}},
        ]}));
        let PartKind::ToolResult(result) = kind else { panic!("no result") };
        assert_eq!((result.call_id.as_str(), result.is_error, result.content.len()), ("a", Some(true), 2));
    }

    #[test]
    fn keeps_blocks_of_server_tools_as_they_stand() {
        let block = json!({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}});
        let name = "server_tool_use".to_owned();
        assert_eq!(only(block.clone()), PartKind::Raw { name, value: block, class: FieldClass::Drop });
    }

    #[test]
    fn reads_cache_marks_of_every_block() {
        let mark = json!({"type": "ephemeral", "ttl": "1h"});
        let parts = decode(json!([
            {"type": "text", "text": "a", "cache_control": mark},
            {"type": "tool_result", "tool_use_id": "a", "cache_control": mark},
            {"type": "web_search_tool_result", "tool_use_id": "a", "content": [], "cache_control": mark},
        ]));
        assert!(parts.iter().all(|part| part.cache == Some(CacheMark { ttl: Some("1h".into()) })));
    }

    #[test]
    fn an_input_keeps_its_order_and_its_spelling() {
        let block = r#"{"type":"tool_use","id":"a","name":"f","input":{"b":1.00,"a":123456789012345678901234567890}}"#;
        let PartKind::ToolCall(call) = only(serde_json::from_str(block).expect("JSON")) else { panic!("no call") };
        assert_eq!(call.arguments, r#"{"b":1.00,"a":123456789012345678901234567890}"#);
    }

    #[test]
    fn names_the_block_that_is_wrong() {
        let content = json!([{"type": "text", "text": "a"}, {"type": "image", "source": {"type": "base64"}}]);
        let refusal = parts(Json::from(&content), "messages[0].content", &mut Others::default()).expect_err("no bytes");
        assert_eq!(refusal.param.as_deref(), Some("messages[0].content[1].source.media_type"));
    }
}
