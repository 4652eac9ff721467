//! Writes the top-level options: caps, sampling, stops, form of the answer, identity, cache, tier, stream.

use serde_json::{Map, Number, Value, json};

use super::{
    ledger::{Field, Ledger},
    names::digest,
    schema,
};
use crate::{MaxTokensField, Refusal, StreamUsage, WireShape, request::OutputFormat};

type Body = Map<String, Value>;

/// Most stop sequences of one request.
const STOPS: usize = 4;
/// Longest identifier of an end user.
const IDENTIFIER: usize = 128;

/// Writes all options.
pub(super) fn encode(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
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

fn put(body: &mut Body, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(key.to_owned(), value.into());
    }
}

fn output_cap(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
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
    put(body, key, Some(asked.min(most)));
    Ok(())
}

fn sampling(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
    let request = ledger.request;
    let (sampling, traits) = (&request.sampling, ledger.target.traits);
    let temperature = drawn(ledger, Field::Temperature, sampling.temperature.as_ref())?;
    let mut top_p = drawn(ledger, Field::TopP, sampling.top_p.as_ref())?;
    if temperature.is_some() && top_p.is_some() && !traits.temperature_with_top_p {
        ledger.dropped(Field::TopP, "the model does not take it together with `temperature`")?;
        top_p = None;
    }
    put(body, "temperature", temperature);
    put(body, "top_p", top_p);
    match (&sampling.top_k, ledger.is_native()) {
        (Some(top_k), true) => put(body, "top_k", Some(top_k.clone())),
        (Some(_), false) => ledger.dropped(Field::TopK, "has no counterpart in chat completions")?,
        (None, _) => {}
    }
    put(body, "seed", sampling.seed.clone());
    put(body, "frequency_penalty", sampling.frequency_penalty.clone());
    put(body, "presence_penalty", sampling.presence_penalty.clone());
    put(body, "logit_bias", sampling.logit_bias.clone());
    Ok(())
}

/// A parameter of sampling; where the model takes none, one that asks for the default is no loss.
fn drawn(ledger: &mut Ledger<'_>, field: Field, value: Option<&Number>) -> Result<Option<Number>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    if ledger.target.traits.sampling {
        return Ok(Some(value.clone()));
    }
    if value.as_f64() != Some(1.0) {
        ledger.dropped(field, "the model does not take it")?;
    }
    Ok(None)
}

fn stop(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
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
    put(body, "stop", Some(stop.clone()));
    Ok(())
}

fn choices(ledger: &Ledger<'_>, body: &mut Body) {
    let request = ledger.request;
    put(body, "n", request.n);
    put(body, "logprobs", request.logprobs);
    put(body, "top_logprobs", request.top_logprobs);
    put(body, "verbosity", request.verbosity.clone());
}

fn format(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
    let request = ledger.request;
    let value = match &request.format {
        None => return Ok(()),
        Some(OutputFormat::Text) => json!({"type": "text"}),
        Some(OutputFormat::JsonObject) => json!({"type": "json_object"}),
        Some(OutputFormat::JsonSchema { name, description, schema, strict }) => {
            if !(ledger.target.dialect.json_schema && ledger.target.traits.json_schema) {
                return Err(ledger.refuse(Field::Format, "answers by a schema are not given"));
            }
            let mut format = Map::new();
            put(&mut format, "name", Some(name.as_deref().unwrap_or("response")));
            put(&mut format, "description", description.clone());
            put(&mut format, "schema", Some(schema.clone()));
            put(&mut format, "strict", schema_strict(ledger, schema, *strict)?);
            json!({"type": "json_schema", "json_schema": format})
        }
    };
    put(body, "response_format", Some(value));
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

fn end_user(ledger: &Ledger<'_>, body: &mut Body) {
    let end_user = &ledger.request.end_user;
    put(body, "user", end_user.user.clone());
    if !ledger.target.dialect.caller_fields {
        return;
    }
    let hashed = end_user.user_id.as_deref().map(identifier);
    put(body, "safety_identifier", end_user.safety_identifier.clone().or(hashed));
    if !ledger.request.metadata.is_empty() {
        let texts = ledger.request.metadata.iter().filter(|(_, value)| ledger.is_native() || value.is_string());
        let texts: Map<String, Value> = texts.map(|(key, value)| (key.clone(), value.clone())).collect();
        put(body, "metadata", (!texts.is_empty()).then_some(texts));
    }
}

/// An identifier that fits; one that is too long or a structure of its own is replaced by its hash.
fn identifier(user_id: &str) -> String {
    let fits = user_id.len() <= IDENTIFIER && !user_id.starts_with('{');
    if fits { user_id.to_owned() } else { digest(user_id) }
}

fn cache(ledger: &Ledger<'_>, body: &mut Body) {
    if !ledger.target.dialect.caller_fields {
        return;
    }
    let (cache, user_id) = (&ledger.request.cache, ledger.request.end_user.user_id.as_deref());
    put(body, "prompt_cache_key", cache.key.clone().or_else(|| user_id.and_then(session)));
    put(body, "prompt_cache_retention", cache.retention.clone());
    put(body, "prompt_cache_options", cache.options.clone());
}

/// The session that Claude Code names within its `user_id`: a field of a JSON text, or the end of an underscored one.
fn session(user_id: &str) -> Option<String> {
    let fields: Option<Value> = serde_json::from_str(user_id).ok();
    let field = fields.as_ref().and_then(|fields| fields["session_id"].as_str());
    let session = field.or_else(|| user_id.rsplit_once("_session_").map(|(_, session)| session))?;
    let fits = !session.is_empty() && session.len() <= 64;
    fits.then(|| session.to_owned())
}

fn service_tier(ledger: &mut Ledger<'_>, body: &mut Body) -> Result<(), Refusal> {
    let Some(tier) = ledger.request.service_tier.clone() else { return Ok(()) };
    match (ledger.request.source, tier.as_str()) {
        (WireShape::OpenaiChat, _) | (_, "auto") => put(body, "service_tier", Some(tier)),
        (WireShape::AnthropicMessages, "standard_only") => put(body, "service_tier", Some("default")),
        (WireShape::AnthropicMessages, _) => ledger.dropped(Field::ServiceTier, "has no counterpart of that name")?,
    }
    Ok(())
}

fn stream(ledger: &Ledger<'_>, body: &mut Body) {
    if !ledger.request.stream {
        return;
    }
    put(body, "stream", Some(true));
    if ledger.target.dialect.stream_usage == StreamUsage::Options {
        let mut options = Map::from_iter([("include_usage".to_owned(), json!(true))]);
        for other in ledger.request.other.iter().filter(|_| ledger.is_native()) {
            if let Some(key) = other.path.strip_prefix("stream_options.") {
                options.insert(key.to_owned(), other.value.clone());
            }
        }
        put(body, "stream_options", Some(options));
    }
}
