//! Writes the top-level options: caps, sampling, stops, form of the answer, identity, cache, tier, stream.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::{
    ledger::{Field, Ledger},
    names::digest,
    schema,
};
use crate::{
    MaxTokensField, Refusal, StreamUsage, WireShape,
    json::{Json, Object, json},
    request::OutputFormat,
};

/// Most stop sequences of one request.
const STOPS: usize = 4;
/// Longest identifier of an end user.
const IDENTIFIER: usize = 128;

/// Writes all options.
pub(super) fn encode<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    output_cap(ledger, body)?;
    sampling(ledger, body)?;
    stop(ledger, body)?;
    choices(ledger, body);
    format(ledger, body)?;
    end_user(ledger, body);
    cache(ledger, body);
    service_tier(ledger, body)?;
    stream(ledger, body);
    Ok(())
}

fn output_cap<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let Some(asked) = ledger.request.output_cap else { return Ok(()) };
    if asked == 0 {
        return Err(ledger.refuse(Field::OutputCap, "an answer of no tokens cannot be asked for"));
    }
    let traits = ledger.target.traits;
    let most = ledger.target.max_output_tokens.or(traits.known.then_some(traits.max_output_tokens)).unwrap_or(u64::MAX);
    if asked > most {
        ledger.clamped(Field::OutputCap, &format!("the model gives {most} tokens at most"))?;
    }
    let key = match ledger.target.dialect.max_tokens_field {
        MaxTokensField::MaxCompletionTokens => "max_completion_tokens",
        MaxTokensField::MaxTokens => "max_tokens",
    };
    body.put(key, Some(asked.min(most)));
    Ok(())
}

fn sampling<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let request = ledger.request;
    let (sampling, traits) = (&request.sampling, ledger.target.traits);
    let temperature = drawn(ledger, Field::Temperature, sampling.temperature.as_ref())?;
    let mut top_p = drawn(ledger, Field::TopP, sampling.top_p.as_ref())?;
    if temperature.is_some() && top_p.is_some() && !traits.temperature_with_top_p {
        ledger.dropped(Field::TopP, "the model does not take it together with `temperature`")?;
        top_p = None;
    }
    body.put("temperature", temperature);
    body.put("top_p", top_p);
    match (&sampling.top_k, ledger.is_native()) {
        (Some(top_k), true) => body.put("top_k", Some(top_k)),
        (Some(_), false) => ledger.dropped(Field::TopK, "has no counterpart in chat completions")?,
        (None, _) => {}
    }
    body.put("seed", sampling.seed.as_ref());
    body.put("frequency_penalty", sampling.frequency_penalty.as_ref());
    body.put("presence_penalty", sampling.presence_penalty.as_ref());
    body.put("logit_bias", sampling.logit_bias.as_ref());
    Ok(())
}

/// A parameter of sampling; where the model takes none, one that asks for the default is no loss.
fn drawn<'a>(ledger: &mut Ledger<'a>, field: Field, value: Option<&'a Number>) -> Result<Option<&'a Number>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    if ledger.target.traits.sampling {
        return Ok(Some(value));
    }
    if value.as_f64() != Some(1.0) {
        ledger.dropped(field, "the model does not take it")?;
    }
    Ok(None)
}

fn stop<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let stop = &ledger.request.stop;
    if stop.is_empty() {
        return Ok(());
    }
    if !ledger.target.traits.stop {
        return ledger.dropped(Field::Stop, "the model does not take it");
    }
    if stop.len() > STOPS {
        return Err(ledger.refuse(Field::Stop, "at most four are taken"));
    }
    body.put("stop", Some(stop.iter().collect::<Json<'_>>()));
    Ok(())
}

fn choices<'a>(ledger: &Ledger<'a>, body: &mut Object<'a>) {
    let request = ledger.request;
    body.put("n", request.n);
    body.put("logprobs", request.logprobs);
    body.put("top_logprobs", request.top_logprobs);
    body.put("verbosity", request.verbosity.as_ref());
}

fn format<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let request = ledger.request;
    let value = match &request.format {
        None => return Ok(()),
        Some(OutputFormat::Text) => json!({"type": "text"}),
        Some(OutputFormat::JsonObject) => json!({"type": "json_object"}),
        Some(OutputFormat::JsonSchema { name, description, schema, strict }) => {
            if !(ledger.target.dialect.json_schema && ledger.target.traits.json_schema) {
                return Err(ledger.refuse(Field::Format, "answers by a schema are not given"));
            }
            let mut format = Object::default();
            format.put("name", Some(name.as_deref().unwrap_or("response")));
            format.put("description", description.as_ref());
            format.put("schema", Some(schema));
            format.put("strict", schema_strict(ledger, schema, *strict)?);
            json!({"type": "json_schema", "json_schema": format})
        }
    };
    body.put("response_format", Some(value));
    Ok(())
}

/// Callers of other shapes are always promised their schema; here that needs the schema to keep to stricter rules.
fn schema_strict(ledger: &mut Ledger<'_>, schema: &Value, strict: Option<bool>) -> Result<Option<bool>, Refusal> {
    if ledger.is_native() {
        return Ok(strict);
    }
    let kept = schema::is_strict(schema);
    if !kept {
        ledger.approximated(Field::Format, "the schema does not keep to the rules of strict mode: it is a hint")?;
    }
    Ok(Some(kept))
}

fn end_user<'a>(ledger: &Ledger<'a>, body: &mut Object<'a>) {
    let end_user = &ledger.request.end_user;
    body.put("user", end_user.user.as_ref());
    if !ledger.target.dialect.caller_fields {
        return;
    }
    let sent = end_user.safety_identifier.as_deref().map(Cow::Borrowed);
    body.put("safety_identifier", sent.or_else(|| end_user.user_id.as_deref().map(identifier)));
    if !ledger.request.metadata.is_empty() {
        let texts = ledger.request.metadata.iter().filter(|(_, value)| ledger.is_native() || value.is_string());
        let mut metadata = Object::default();
        texts.for_each(|(key, value)| metadata.push(key, value));
        body.put("metadata", Some(metadata).filter(|metadata| !metadata.is_empty()));
    }
}

/// An identifier that fits; one that is too long or a structure of its own is replaced by its hash.
fn identifier(user_id: &str) -> Cow<'_, str> {
    let fits = user_id.len() <= IDENTIFIER && !user_id.starts_with('{');
    if fits { Cow::Borrowed(user_id) } else { Cow::Owned(digest(user_id)) }
}

fn cache<'a>(ledger: &Ledger<'a>, body: &mut Object<'a>) {
    if !ledger.target.dialect.caller_fields {
        return;
    }
    let (cache, user_id) = (&ledger.request.cache, ledger.request.end_user.user_id.as_deref());
    body.put("prompt_cache_key", cache.key.clone().or_else(|| user_id.and_then(session)));
    body.put("prompt_cache_retention", cache.retention.as_ref());
    body.put("prompt_cache_options", cache.options.as_ref());
}

/// The session that Claude Code names within its `user_id`: a field of a JSON text, or the end of an underscored one.
fn session(user_id: &str) -> Option<String> {
    let fields = Json::parse_str(user_id).ok();
    let field = fields.as_ref().and_then(|fields| fields["session_id"].as_str());
    let session = field.or_else(|| user_id.rsplit_once("_session_").map(|(_, session)| session))?;
    let fits = !session.is_empty() && session.len() <= 64;
    fits.then(|| session.to_owned())
}

fn service_tier<'a>(ledger: &mut Ledger<'a>, body: &mut Object<'a>) -> Result<(), Refusal> {
    let Some(tier) = &ledger.request.service_tier else { return Ok(()) };
    match (ledger.request.source, tier.as_str()) {
        (WireShape::OpenaiChat, _) | (_, "auto") => body.put("service_tier", Some(tier)),
        (WireShape::AnthropicMessages, "standard_only") => body.put("service_tier", Some("default")),
        (WireShape::AnthropicMessages, _) => ledger.dropped(Field::ServiceTier, "has no counterpart of that name")?,
    }
    Ok(())
}

fn stream<'a>(ledger: &Ledger<'a>, body: &mut Object<'a>) {
    if !ledger.request.stream {
        return;
    }
    body.put("stream", Some(true));
    if ledger.target.dialect.stream_usage == StreamUsage::Options {
        let mut options = Object::of([("include_usage", true.into())]);
        for other in ledger.request.other.iter().filter(|_| ledger.is_native()) {
            if let Some(key) = other.path.strip_prefix("stream_options.") {
                options.insert(key, &other.value);
            }
        }
        body.put("stream_options", Some(options));
    }
}
