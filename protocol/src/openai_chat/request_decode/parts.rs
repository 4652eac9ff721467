//! Reads the content of chat messages: a string, or parts with their prompt-cache marks.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{super::reasoning::thinking_part, At};
use crate::{
    Refusal,
    request::{CacheMark, DocumentSource, FieldClass, Media, Part, PartKind},
};

/// Content as parts; none where it is absent or an empty string.
pub(super) fn content(message: &At<'_>) -> Result<Vec<Part>, Refusal> {
    let Some(content) = message.get("content") else { return Ok(Vec::new()) };
    match content.value().as_str() {
        Some("") => Ok(Vec::new()),
        Some(text) => Ok(vec![Part::text(text)]),
        None if content.value().is_array() => content.list()?.map(|at| part(&at)).collect(),
        None => Err(content.wrong("a string or an array of parts")),
    }
}

fn part(at: &At<'_>) -> Result<Part, Refusal> {
    let kind = match at.need("type")?.str()? {
        "text" => PartKind::Text { text: at.need("text")?.string()?, citations: Vec::new() },
        "refusal" => PartKind::Refusal(at.need("refusal")?.string()?),
        "image_url" => image(at)?,
        "input_audio" => audio(at)?,
        "file" => file(&at.need("file")?)?,
        "thinking" => PartKind::Thinking { text: thinking_part(at.value()), proof: None },
        name => unknown(name, at),
    };
    Ok(Part { kind, cache: mark(at)? })
}

fn unknown(name: &str, part: &At<'_>) -> PartKind {
    PartKind::Raw { name: name.to_owned(), value: part.value().to_value(), class: FieldClass::Refuse }
}

/// A prompt-cache mark, in OpenAI's word or in the one that compatible hosts took from Anthropic.
pub(super) fn mark(at: &At<'_>) -> Result<Option<CacheMark>, Refusal> {
    let mark = at.get("prompt_cache_breakpoint").or_else(|| at.get("cache_control"));
    let Some(mark) = mark else { return Ok(None) };
    mark.object()?;
    Ok(Some(CacheMark { ttl: mark.opt("ttl", At::string)? }))
}

/// An object with its URL, or, as some hosts have it, the URL itself.
fn image(part: &At<'_>) -> Result<PartKind, Refusal> {
    let image = part.need("image_url")?;
    let (url, detail) = match image.value().is_string() {
        true => (image, None),
        false => (image.need("url")?, image.opt("detail", At::string)?),
    };
    Ok(PartKind::Image { source: media(&url)?, detail })
}

fn audio(part: &At<'_>) -> Result<PartKind, Refusal> {
    let audio = part.need("input_audio")?;
    let source = match audio.value().as_str() {
        Some(url) if url.starts_with("http") || url.starts_with("data:") => media(&audio)?,
        // Base64 of a type that nobody says.
        Some(_) => return Ok(unknown("input_audio", part)),
        None => Media::Inline {
            media_type: format!("audio/{}", audio.need("format")?.str()?),
            data: base64(&audio.need("data")?, audio.need("data")?.str()?)?,
        },
    };
    Ok(PartKind::Audio { source })
}

fn file(at: &At<'_>) -> Result<PartKind, Refusal> {
    let title = at.opt("filename", At::string)?;
    let source = match at.get("file_id") {
        Some(id) => Media::FileId(id.string()?),
        None => file_data(&at.need("file_data")?, title.as_deref())?,
    };
    Ok(PartKind::Document { source: DocumentSource::Media(source), title, context: None, citations: false })
}

/// A data URL; bare base64 takes its type from the name of the file.
fn file_data(at: &At<'_>, filename: Option<&str>) -> Result<Media, Refusal> {
    let text = at.str()?;
    if text.starts_with("data:") {
        return media(at);
    }
    let extension = filename.and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension);
    let media_type = match extension.to_ascii_lowercase().as_str() {
        "pdf" => "application/pdf",
        "txt" | "md" | "csv" => "text/plain",
        _ => "application/octet-stream",
    };
    Ok(Media::Inline { media_type: media_type.to_owned(), data: base64(at, text)? })
}

fn media(at: &At<'_>) -> Result<Media, Refusal> {
    let url = at.str()?;
    let Some(inline) = url.strip_prefix("data:") else { return Ok(Media::Url(url.to_owned())) };
    let (head, data) = inline.split_once(',').ok_or_else(|| at.wrong("a data URL with a comma before its data"))?;
    let media_type = head.strip_suffix(";base64").ok_or_else(|| at.wrong("a data URL in base64"))?;
    let media_type = media_type.split(';').next().unwrap_or(media_type).to_owned();
    Ok(Media::Inline { media_type, data: base64(at, data)? })
}

/// Base64 as it came. Other shapes refuse bad data with words that name their own fields, so we look first.
fn base64(at: &At<'_>, data: &str) -> Result<String, Refusal> {
    STANDARD.decode(data).map_err(|_| at.wrong("valid base64"))?;
    Ok(data.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json::Json;

    fn kind_of(value: Value) -> Result<PartKind, Refusal> {
        part(&At::root(&Json::from(&value))).map(|part| part.kind)
    }

    fn inline(media_type: &str, data: &str) -> Media {
        Media::Inline { media_type: media_type.into(), data: data.into() }
    }

    #[test]
    fn images_are_read_from_data_urls_and_addresses() {
        let got =
            kind_of(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk=", "detail": "low"}}));
        assert_eq!(got.unwrap(), PartKind::Image { source: inline("image/png", "aGk="), detail: Some("low".into()) });
        let got = kind_of(json!({"type": "image_url", "image_url": "https://a/b.png"}));
        assert_eq!(got.unwrap(), PartKind::Image { source: Media::Url("https://a/b.png".into()), detail: None });
        let bad = kind_of(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}}));
        assert_eq!(bad.unwrap_err().param.unwrap(), "image_url.url");
    }

    #[test]
    fn audio_and_files_are_read() {
        let got = kind_of(json!({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}));
        assert_eq!(got.unwrap(), PartKind::Audio { source: inline("audio/wav", "aGk=") });
        let document = |source, title: Option<&str>| PartKind::Document {
            source: DocumentSource::Media(source),
            title: title.map(Into::into),
            context: None,
            citations: false,
        };
        let got = kind_of(json!({"type": "file", "file": {"file_data": "aGk=", "filename": "a.PDF"}}));
        assert_eq!(got.unwrap(), document(inline("application/pdf", "aGk="), Some("a.PDF")));
        let got = kind_of(json!({"type": "file", "file": {"file_id": "file-1"}}));
        assert_eq!(got.unwrap(), document(Media::FileId("file-1".into()), None));
    }

    #[test]
    fn cache_marks_stand_on_parts() {
        let value = json!({"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}});
        assert_eq!(part(&At::root(&Json::from(&value))).unwrap().cache, Some(CacheMark { ttl: Some("12h".into()) }));
        let value = json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}});
        assert_eq!(part(&At::root(&Json::from(&value))).unwrap().cache, Some(CacheMark { ttl: None }));
    }

    #[test]
    fn a_part_of_an_unknown_type_is_kept_and_refused_elsewhere() {
        let value = json!({"type": "video_url", "video_url": {"url": "x"}});
        let expected = PartKind::Raw { name: "video_url".into(), value: value.clone(), class: FieldClass::Refuse };
        assert_eq!(kind_of(value).unwrap(), expected);
    }
}
