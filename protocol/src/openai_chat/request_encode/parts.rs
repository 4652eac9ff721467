//! Writes parts of content, with their prompt-cache marks.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::ledger::{Field, Ledger};
use crate::{
    Refusal, WireShape,
    json::{Json, json},
    request::{DocumentSource, Media, Part, PartKind},
};

/// Most prompt-cache marks of one request; of more, the last ones count.
const MARKS: usize = 4;

/// Content as a string where it is one plain text, else as parts.
pub(super) fn content(mut parts: Vec<Json<'_>>) -> Json<'_> {
    match parts.as_mut_slice() {
        [] => json!(""),
        [Json::Object(one)] if one.len() == 2 && one.get("type").is_some_and(|kind| *kind == *"text") => {
            one.take("text").unwrap_or_default()
        }
        _ => Json::Array(parts),
    }
}

/// A part of a user's, an operator's or a tool's message. One canonical part may need several.
pub(super) fn user_part<'a>(
    ledger: &mut Ledger<'a>,
    part: &'a Part,
    marks: &mut Marks,
) -> Result<Vec<Json<'a>>, Refusal> {
    let mut values = match &part.kind {
        PartKind::Text { text, .. } => vec![text_part(text)],
        PartKind::Image { source, detail } => vec![image(ledger, source, detail.as_deref())?],
        PartKind::Audio { source } => vec![audio(ledger, source)?],
        PartKind::Document { source, title, context, citations } => {
            if *citations {
                ledger.dropped(Field::Document, "citations of documents are not given")?;
            }
            document(ledger, source, title.as_deref(), context.as_deref(), marks)?
        }
        PartKind::SearchResult { source, title, texts, citations } => {
            if *citations {
                ledger.dropped(Field::SearchResult, "citations of search results are not given")?;
            }
            ledger.approximated(Field::SearchResult, "goes as text")?;
            vec![text_part(format!("{title} — {source}\n\n{}", texts.join("\n\n")))]
        }
        PartKind::Refusal(text) => vec![text_part(text)],
        PartKind::Thinking { .. } | PartKind::RedactedThinking(_) => vec![],
        PartKind::Raw { value, .. } if ledger.is_native() => vec![value.into()],
        PartKind::Raw { name, class, .. } => {
            let field = format!("messages.content.{name}");
            ledger.leave_out(*class, &field, "is known to its own provider alone")?;
            vec![]
        }
        PartKind::ToolCall(_) | PartKind::ToolResult(_) => {
            return Err(ledger.refuse(Field::Messages, "tool calls and results stand in turns of their own"));
        }
    };
    marks.put(ledger, part, values.last_mut())?;
    Ok(values)
}

/// A text that the model said.
pub(super) fn assistant_text<'a>(
    ledger: &mut Ledger<'_>,
    part: &'a Part,
    marks: &mut Marks,
) -> Result<Json<'a>, Refusal> {
    let PartKind::Text { text, citations } = &part.kind else {
        return Err(ledger.refuse(Field::Messages, "assistant messages take text and tool calls alone"));
    };
    if !citations.is_empty() {
        ledger.dropped(Field::Citations, "citations of earlier answers are not taken back")?;
    }
    let mut value = text_part(text);
    marks.put(ledger, part, Some(&mut value))?;
    Ok(value)
}

fn text_part<'a>(text: impl Into<Json<'a>>) -> Json<'a> {
    json!({"type": "text", "text": text})
}

fn image<'a>(ledger: &Ledger<'_>, source: &'a Media, detail: Option<&'a str>) -> Result<Json<'a>, Refusal> {
    let url = match source {
        Media::Inline { media_type, data } => Json::from(format!("data:{media_type};base64,{data}")),
        Media::Url(url) if ledger.target.dialect.image_urls => url.into(),
        Media::Url(_) => return Err(ledger.refuse(Field::Image, "the host takes inline images alone")),
        Media::FileId(_) => return Err(ledger.refuse(Field::Image, "a file id is known to its own provider alone")),
    };
    let mut image = json!({"url": url});
    if let Some(detail) = detail {
        image.set("detail", detail);
    }
    Ok(json!({"type": "image_url", "image_url": image}))
}

fn audio<'a>(ledger: &Ledger<'_>, source: &'a Media) -> Result<Json<'a>, Refusal> {
    let Media::Inline { media_type, data } = source else {
        return Err(ledger.refuse(Field::Audio, "sound must be inline"));
    };
    let format = media_type.strip_prefix("audio/").unwrap_or(media_type);
    let format = if format == "mpeg" { "mp3" } else { format };
    Ok(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
}

fn document<'a>(
    ledger: &mut Ledger<'a>,
    source: &'a DocumentSource,
    title: Option<&'a str>,
    context: Option<&'a str>,
    marks: &mut Marks,
) -> Result<Vec<Json<'a>>, Refusal> {
    let heading: Vec<&str> = title.into_iter().chain(context).collect();
    let titled = |text: &str| text_part([heading.as_slice(), &[text]].concat().join("\n\n"));
    match source {
        DocumentSource::Text(text) => Ok(vec![titled(text)]),
        DocumentSource::Media(Media::Inline { media_type, data }) if media_type.starts_with("text/") => {
            Ok(vec![titled(&decoded_text(ledger, data)?)])
        }
        DocumentSource::Media(Media::Inline { media_type, data }) => {
            let mut values: Vec<Json<'_>> = context.map(text_part).into_iter().collect();
            let filename = title.unwrap_or("document.pdf");
            let file = json!({"filename": filename, "file_data": format!("data:{media_type};base64,{data}")});
            values.push(json!({"type": "file", "file": file}));
            Ok(values)
        }
        DocumentSource::Media(Media::Url(_)) => Err(ledger.refuse(Field::Document, "documents by URL are not taken")),
        DocumentSource::Media(Media::FileId(_)) => {
            Err(ledger.refuse(Field::Document, "a file id is known to its own provider alone"))
        }
        DocumentSource::Parts(parts) => {
            ledger.approximated(Field::Document, "its content goes as parts of the message")?;
            let mut values: Vec<Json<'_>> = heading.into_iter().map(text_part).collect();
            for part in parts {
                values.extend(user_part(ledger, part, marks)?);
            }
            Ok(values)
        }
    }
}

fn decoded_text(ledger: &Ledger<'_>, data: &str) -> Result<String, Refusal> {
    let bytes = STANDARD.decode(data).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| ledger.refuse(Field::Document, "a text document must be base64 of UTF-8"))
}

/// The prompt-cache marks of a request. Where the model takes none they are left out silently: they are hints.
pub(super) struct Marks {
    /// How many marks are passed over, so that the last ones remain.
    skip: usize,
}

impl Marks {
    pub(super) fn new(ledger: &Ledger<'_>) -> Self {
        let parts = ledger.request.turns.iter().flat_map(|turn| &turn.parts);
        let inner = |part: &Part| match &part.kind {
            PartKind::ToolResult(result) => result.content.iter().filter(|part| part.cache.is_some()).count(),
            _ => 0,
        };
        let all: usize = parts.map(|part| usize::from(part.cache.is_some()) + inner(part)).sum();
        Self { skip: all.saturating_sub(MARKS) }
    }

    /// Puts the mark of a part on the value that stands for it.
    pub(super) fn put<'a>(
        &mut self,
        ledger: &mut Ledger<'_>,
        part: &'a Part,
        value: Option<&mut Json<'a>>,
    ) -> Result<(), Refusal> {
        let Some(mark) = &part.cache else { return Ok(()) };
        let Some(value) = value else { return self.unused(ledger, part) };
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(());
        }
        if !ledger.target.traits.prompt_cache_breakpoints {
            return Ok(());
        }
        let mut breakpoint = json!({"mode": "explicit"});
        match (mark.ttl.as_deref(), ledger.request.source) {
            (None | Some("5m"), _) => {}
            (Some("1h"), WireShape::AnthropicMessages) => {
                ledger.approximated(Field::ContentCache, "one hour becomes the provider's default time")?;
            }
            (Some(ttl), _) => breakpoint.set("ttl", ttl),
        }
        value.set("prompt_cache_breakpoint", breakpoint);
        Ok(())
    }

    /// A mark at a place that has none in this shape.
    pub(super) fn unused(&mut self, ledger: &mut Ledger<'_>, part: &Part) -> Result<(), Refusal> {
        if part.cache.is_none() {
            return Ok(());
        }
        self.skip = self.skip.saturating_sub(1);
        match ledger.target.traits.prompt_cache_breakpoints {
            true => ledger.dropped(Field::ContentCache, "only texts and media take a mark"),
            false => Ok(()),
        }
    }
}
