//! Writes parts of turns as content blocks. Parts that this shape rejects (empty texts) and reasoning that another
//! provider made, or that nobody proves, are left out.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{Scope, cache_marks::marked};
use crate::{
    Loss, Refusal,
    answer::Citation,
    anthropic_messages::{citations, names},
    json::{Json, Object, json},
    request::{
        DocumentSource, FieldClass, Issuer, Media, Opaque, OtherField, Part, PartKind, ToolCall, ToolKind, ToolResult,
    },
};

/// Media types of pictures.
const PICTURES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The blocks of a turn; `index` is the turn's place in the request, for refusals.
pub(super) fn blocks<'p>(
    parts: &'p [Part],
    index: usize,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Vec<Json<'p>>, Refusal> {
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

fn block<'p>(
    kind: &'p PartKind,
    index: usize,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Option<Json<'p>>, Refusal> {
    let block = match kind {
        PartKind::Text { text, citations } => return Ok(text_block(text, citations)),
        PartKind::Refusal(text) => return Ok(text_block(text, &[])),
        PartKind::Image { source, .. } => json!({"type": "image", "source": image(source, scope)?}),
        PartKind::Audio { .. } => {
            return Err(scope.refuse(format!("messages[{index}].content"), "the model hears no audio"));
        }
        PartKind::Document { source, title, context, citations } => {
            let mut block = json!({"type": "document", "source": document(source, index, scope, losses)?});
            for (key, value) in [("title", title), ("context", context)] {
                if let Some(value) = value {
                    block.set(key, value);
                }
            }
            cited(block, *citations)
        }
        PartKind::SearchResult { source, title, texts, citations } => {
            let texts: Vec<_> = texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
            cited(json!({"type": "search_result", "source": source, "title": title, "content": texts}), *citations)
        }
        PartKind::Thinking { text, proof: Some(proof) } if is_own(proof) => {
            json!({"type": "thinking", "thinking": text, "signature": &proof.data})
        }
        PartKind::RedactedThinking(opaque) if is_own(opaque) => {
            json!({"type": "redacted_thinking", "data": &opaque.data})
        }
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) => return Ok(None),
        PartKind::ToolCall(call) => tool_use(call, index, 0, scope)?,
        PartKind::ToolResult(result) => tool_result(result, index, scope, losses)?,
        PartKind::Raw { value, .. } if scope.native() => value.into(),
        PartKind::Raw { name, value, class } => return raw(name, value, *class, scope, losses),
    };
    Ok(Some(block))
}

fn is_own(opaque: &Opaque) -> bool {
    opaque.issuer == Issuer::Anthropic
}

/// A text; none where it holds nothing but white space, which is refused upstream.
fn text_block<'p>(text: &'p str, citations: &'p [Citation]) -> Option<Json<'p>> {
    if text.trim().is_empty() {
        return None;
    }
    let mut block = json!({"type": "text", "text": text});
    let citations: Vec<_> = citations.iter().filter_map(citations::for_provider).collect();
    if !citations.is_empty() {
        block.set("citations", citations);
    }
    Some(block)
}

fn cited(mut block: Json<'_>, citations: bool) -> Json<'_> {
    if citations {
        block.set("citations", json!({"enabled": true}));
    }
    block
}

fn image<'p>(source: &'p Media, scope: Scope) -> Result<Json<'p>, Refusal> {
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
fn file<'p>(id: &'p str, field: &str, scope: Scope) -> Result<Json<'p>, Refusal> {
    if scope.native() {
        return Ok(json!({"type": "file", "file_id": id}));
    }
    Err(scope.refuse(field, "a file id is known to the provider alone that gave it; send the file itself"))
}

fn document<'p>(
    source: &'p DocumentSource,
    index: usize,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Json<'p>, Refusal> {
    let plain = |text: Cow<'p, str>| json!({"type": "text", "media_type": "text/plain", "data": text});
    match source {
        DocumentSource::Text(text) => Ok(plain(text.into())),
        DocumentSource::Parts(parts) => Ok(json!({"type": "content", "content": blocks(parts, index, scope, losses)?})),
        DocumentSource::Media(Media::Url(url)) => Ok(json!({"type": "url", "url": url})),
        DocumentSource::Media(Media::FileId(id)) => file(id, file_field(scope), scope),
        DocumentSource::Media(Media::Inline { media_type, data }) if media_type == "application/pdf" => {
            Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
        }
        DocumentSource::Media(Media::Inline { media_type, data }) => match text_of(media_type, data) {
            Some(text) => Ok(plain(text.into())),
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

fn tool_use<'p>(call: &'p ToolCall, turn: usize, index: usize, scope: Scope) -> Result<Json<'p>, Refusal> {
    let input = match call.kind {
        ToolKind::Custom => json!({"input": &call.arguments}),
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

fn tool_result<'p>(
    result: &'p ToolResult,
    index: usize,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Json<'p>, Refusal> {
    let mut block =
        Object::of([("type", "tool_result".into()), ("tool_use_id", names::wire_id(&result.call_id).into())]);
    let mut content = blocks(&result.content, index, scope, losses)?;
    match content.as_mut_slice() {
        [] => {}
        [Json::Object(only)] if only.len() == 2 && only.get("type").is_some_and(|kind| *kind == *"text") => {
            block.put("content", only.take("text"));
        }
        _ => block.push("content", content),
    }
    block.put("is_error", result.is_error);
    Ok(block.into())
}

fn raw<'p>(
    name: &str,
    value: &Value,
    class: FieldClass,
    scope: Scope,
    losses: &mut Vec<Loss>,
) -> Result<Option<Json<'p>>, Refusal> {
    let field = OtherField { path: format!("messages.content.{name}"), value: value.clone(), class };
    scope.other(&field, losses).map(|()| None)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::testing::{assistant, call, chat, encoded, named, refused, result, traits, turn, user},
        *,
    };
    use crate::{
        LossKind,
        request::{CacheMark, Request, Role},
    };

    fn says(parts: Vec<Part>) -> Request {
        Request { turns: vec![turn(Role::User, parts)], ..chat() }
    }

    fn content(kind: PartKind) -> Value {
        encoded(&says(vec![Part::new(kind)]), &traits()).0["messages"][0]["content"][0].clone()
    }

    fn inline(media_type: &str, data: &str) -> Media {
        Media::Inline { media_type: media_type.into(), data: data.into() }
    }

    fn picture(source: Media) -> PartKind {
        PartKind::Image { source, detail: Some("high".into()) }
    }

    fn file(source: DocumentSource) -> PartKind {
        PartKind::Document { source, title: Some("a.pdf".into()), context: None, citations: false }
    }

    #[test]
    fn pictures_go_inline_or_by_address() {
        let source = json!({"type": "base64", "media_type": "image/jpeg", "data": "AA=="});
        assert_eq!(content(picture(inline("image/jpg", "AA=="))), json!({"type": "image", "source": source}));
        assert_eq!(
            content(picture(Media::Url("https://a/b".into())))["source"],
            json!({"type": "url", "url": "https://a/b"})
        );
    }

    #[test]
    fn foreign_file_ids_audio_and_unknown_pictures_are_refused() {
        let refusal = |kind| refused(&says(vec![Part::new(kind)]), &traits()).param;
        assert_eq!(refusal(picture(Media::FileId("f".into()))).as_deref(), Some("messages.content.image_url"));
        assert_eq!(refusal(picture(inline("image/tiff", "AA=="))).as_deref(), Some("messages.content.image_url"));
        assert_eq!(
            refusal(PartKind::Audio { source: inline("audio/wav", "AA==") }).as_deref(),
            Some("messages[0].content")
        );
        let media = DocumentSource::Media(inline("application/zip", "AA=="));
        assert_eq!(refusal(file(media)).as_deref(), Some("messages.content.file"));
    }

    #[test]
    fn documents_are_pdf_or_text() {
        let pdf = content(file(DocumentSource::Media(inline("application/pdf", "AA=="))));
        let source = json!({"type": "base64", "media_type": "application/pdf", "data": "AA=="});
        assert_eq!(pdf, json!({"type": "document", "source": source, "title": "a.pdf"}));
        let text = content(file(DocumentSource::Media(inline("text/csv", "YSxi"))));
        assert_eq!(text["source"], json!({"type": "text", "media_type": "text/plain", "data": "a,b"}));
    }

    #[test]
    fn reasoning_goes_to_its_own_issuer_alone() {
        let thinking = |issuer, data: &str| {
            Part::new(PartKind::Thinking { text: "hm".into(), proof: Some(Opaque { issuer, data: data.into() }) })
        };
        let parts = vec![
            thinking(Issuer::OpenAi, "theirs"),
            thinking(Issuer::Anthropic, "ours=="),
            Part::new(PartKind::Thinking { text: "unproven".into(), proof: None }),
            Part::text("so"),
        ];
        let request = Request { turns: vec![user("a"), turn(Role::Assistant, parts), user("b")], ..chat() };
        let (body, losses) = encoded(&request, &traits());
        let wanted = json!([
            {"type": "thinking", "thinking": "hm", "signature": "ours=="}, {"type": "text", "text": "so"},
        ]);
        assert_eq!(body["messages"][1]["content"], wanted);
        assert!(losses.is_empty());
    }

    #[test]
    fn arguments_are_an_object_or_refused_with_their_path() {
        let with = |arguments: &str| {
            let calls = turn(Role::Assistant, vec![call("a", "{}"), call("b", arguments)]);
            Request { turns: vec![user("go"), calls, result("a", ""), result("b", "2")], ..chat() }
        };
        let (body, _) = encoded(&with(r#"{"z":1.0,"a":[]}"#), &traits());
        assert_eq!(body["messages"][1]["content"][1]["input"].to_string(), r#"{"z":1.0,"a":[]}"#);
        assert_eq!(body["messages"][2]["content"][0], json!({"type": "tool_result", "tool_use_id": "a"}));
        assert_eq!(encoded(&with(""), &traits()).0["messages"][1]["content"][1]["input"], json!({}));
        let refusal = refused(&with("{\"cut"), &traits());
        assert_eq!(refusal.param.as_deref(), Some("messages[1].tool_calls[1].function.arguments"));
    }

    #[test]
    fn illegal_ids_agree_between_call_and_result() {
        let calls = turn(Role::Assistant, vec![call("functions.f:0", "{}")]);
        let request = Request { turns: vec![user("go"), calls, result("functions.f:0", "1")], ..chat() };
        let (body, _) = encoded(&request, &traits());
        let id = &body["messages"][1]["content"][0]["id"];
        assert_eq!(id, &body["messages"][2]["content"][0]["tool_use_id"]);
        assert_eq!(names::caller_id(id.as_str().expect("an id")), "functions.f:0");
    }

    #[test]
    fn results_hold_pictures_and_failures() {
        let content = vec![Part::text("see"), Part::new(picture(Media::Url("u".into())))];
        let result = ToolResult { call_id: "a".into(), content, is_error: Some(true) };
        let turns = vec![
            user("go"),
            turn(Role::Assistant, vec![call("a", "{}")]),
            turn(Role::Tool, vec![Part::new(PartKind::ToolResult(result))]),
        ];
        let (body, _) = encoded(&Request { turns, ..chat() }, &traits());
        let wanted = json!({"type": "tool_result", "tool_use_id": "a", "is_error": true, "content": [
            {"type": "text", "text": "see"}, {"type": "image", "source": {"type": "url", "url": "u"}},
        ]});
        assert_eq!(body["messages"][2]["content"][0], wanted);
    }

    #[test]
    fn free_input_is_wrapped_and_refusals_are_text() {
        let custom = ToolCall { id: "a".into(), name: "sh".into(), arguments: "ls -l".into(), kind: ToolKind::Custom };
        let parts = vec![Part::new(PartKind::Refusal("no".into())), Part::new(PartKind::ToolCall(custom))];
        let request = Request { turns: vec![user("go"), turn(Role::Assistant, parts), result("a", "x")], ..chat() };
        let (body, _) = encoded(&request, &traits());
        assert_eq!(body["messages"][1]["content"][0], json!({"type": "text", "text": "no"}));
        assert_eq!(body["messages"][1]["content"][1]["input"], json!({"input": "ls -l"}));
    }

    #[test]
    fn cache_marks_keep_their_time_or_the_nearest() {
        let part = |ttl: Option<&str>| Part { cache: Some(CacheMark { ttl: ttl.map(Into::into) }), ..Part::text("a") };
        let (body, losses) = encoded(&says(vec![part(None), part(Some("30m"))]), &traits());
        assert_eq!(body["messages"][0]["content"][0]["cache_control"], json!({"type": "ephemeral"}));
        assert_eq!(body["messages"][0]["content"][1]["cache_control"], json!({"type": "ephemeral", "ttl": "1h"}));
        assert_eq!(named(&losses), [(LossKind::Approximated, "prompt_cache_breakpoint.ttl")]);
    }

    #[test]
    fn the_last_four_marks_are_kept() {
        let marked = |text: &str| Part { cache: Some(CacheMark::default()), ..Part::text(text) };
        let mut request = says((0..6).map(|place| marked(&place.to_string())).collect());
        request.turns.insert(0, turn(Role::System, vec![marked("s")]));
        request.turns.extend([assistant("ok"), user("on")]);
        let (body, losses) = encoded(&request, &traits());
        assert!(body["system"][0].get("cache_control").is_none());
        let blocks = body["messages"][0]["content"].as_array().expect("blocks");
        let kept: Vec<_> = blocks.iter().map(|block| block.get("cache_control").is_some()).collect();
        assert_eq!(kept, [false, false, true, true, true, true]);
        assert_eq!(named(&losses), [(LossKind::Dropped, "prompt_cache_breakpoint")]);
    }
}
