//! Reads a Messages request: its top-level fields, and what another shape must do with those that it cannot carry.
//! Turns, blocks and tools are read by their own files.

mod blocks;
mod tools;
mod turns;

use indexmap::{IndexMap, map::Entry};
use serde_json::Value;

use crate::{
    Refusal, WireShape,
    anthropic_messages::fields::{Fields, at, plain, wrong},
    json::Json,
    request::{
        CacheOptions, EndUser, FieldClass, OtherField, OutputFormat, Reasoning, Request, Sampling, ThinkingMode, Tool,
    },
};

/// Fields without a canonical place, as they are met. A path is kept once, whatever the number of its places, with the
/// gravest of its classes.
#[derive(Debug, Default)]
pub(super) struct Others {
    fields: IndexMap<String, OtherField>,
    /// Tools that are declared within the conversation.
    late_tools: Vec<Tool>,
}

impl Others {
    fn add(&mut self, path: &str, value: Value, class: FieldClass) {
        match self.fields.entry(plain(path)) {
            Entry::Vacant(entry) => {
                let path = entry.key().clone();
                entry.insert(OtherField { path, value, class });
            }
            Entry::Occupied(mut entry) if gravity(class) > gravity(entry.get().class) => {
                let field = entry.get_mut();
                (field.value, field.class) = (value, class);
            }
            Entry::Occupied(_) => {}
        }
    }

    /// Everything that is left of an object.
    fn rest(&mut self, fields: Fields<'_>, class: FieldClass) {
        for (path, value) in fields.rest() {
            self.add(&path, value, class);
        }
    }
}

fn gravity(class: FieldClass) -> u8 {
    match class {
        FieldClass::Silent => 0,
        FieldClass::Drop => 1,
        FieldClass::Refuse => 2,
    }
}

/// Reads a request. Fields that this codec does not know are kept for the same shape and left out elsewhere.
///
/// Errs on malformed JSON and on values of the wrong type, naming the path.
pub fn decode_request(body: &[u8]) -> Result<Request, Refusal> {
    let mut fields = Fields::parse(body)?;
    let mut others = Others::default();
    let model = fields.required_text("model")?;
    let turns = turns::turns(&mut fields, &mut others)?;
    let mut tools = tools::tools(&mut fields)?;
    tools.append(&mut others.late_tools);
    let (tool_choice, parallel_tool_calls) = tools::choice(&mut fields, &mut others)?;
    let (format, effort) = output_config(&mut fields, &mut others)?;
    let reasoning = reasoning(&mut fields, effort, &mut others)?;
    let (end_user, metadata) = metadata(&mut fields)?;
    let request = Request {
        source: WireShape::AnthropicMessages,
        model,
        turns,
        tools,
        tool_choice,
        parallel_tool_calls,
        output_cap: fields.count("max_tokens")?,
        sampling: sampling(&mut fields)?,
        stop: strings(&mut fields, "stop_sequences")?,
        n: None,
        logprobs: None,
        top_logprobs: None,
        format,
        verbosity: None,
        reasoning,
        end_user,
        metadata,
        cache: CacheOptions { mark: blocks::cache_mark(&mut fields)?, ..CacheOptions::default() },
        service_tier: fields.text("service_tier")?,
        stream: fields.flag("stream")?.unwrap_or(false),
        include_usage: true,
        legacy_functions: false,
        other: classified(fields, others),
    };
    Ok(request)
}

fn sampling(fields: &mut Fields<'_>) -> Result<Sampling, Refusal> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.number("top_k")?,
        ..Sampling::default()
    })
}

fn strings(fields: &mut Fields<'_>, key: &str) -> Result<Vec<String>, Refusal> {
    let list = fields.list(key)?;
    let text = |(index, value): (usize, Json<'_>)| match value {
        Json::String(text) => Ok(text.into_owned()),
        other => Err(wrong(&at(&fields.path(key), index), "a string", &other)),
    };
    list.into_iter().enumerate().map(text).collect()
}

/// `output_config`, and `output_format`, its older place.
fn output_config(
    fields: &mut Fields<'_>,
    others: &mut Others,
) -> Result<(Option<OutputFormat>, Option<String>), Refusal> {
    let older = output_format(fields.object("output_format")?, others)?;
    let Some(mut config) = fields.object("output_config")? else { return Ok((older, None)) };
    let effort = config.text("effort")?;
    let format = output_format(config.object("format")?, others)?;
    if let Some(budget) = config.take("task_budget") {
        others.add(&config.path("task_budget"), budget.to_value(), FieldClass::Drop);
    }
    others.rest(config, FieldClass::Silent);
    Ok((format.or(older), effort))
}

fn output_format(format: Option<Fields<'_>>, others: &mut Others) -> Result<Option<OutputFormat>, Refusal> {
    let Some(mut format) = format else { return Ok(None) };
    let kind = format.required_text("type")?;
    if kind != "json_schema" {
        others.add(format.here(), Value::String(kind), FieldClass::Refuse);
        return Ok(None);
    }
    let schema = format.required("schema")?.to_value();
    others.rest(format, FieldClass::Silent);
    Ok(Some(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None }))
}

fn reasoning(
    fields: &mut Fields<'_>,
    effort: Option<String>,
    others: &mut Others,
) -> Result<Option<Reasoning>, Refusal> {
    let Some(mut thinking) = fields.object("thinking")? else {
        return Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }));
    };
    let kind = thinking.required_text("type")?;
    let mode = match kind.as_str() {
        "disabled" => Some(ThinkingMode::Disabled),
        "adaptive" => Some(ThinkingMode::Adaptive),
        "between_tools" => Some(ThinkingMode::BetweenTools),
        "enabled" => Some(ThinkingMode::Budget(budget(&mut thinking)?)),
        _ => {
            others.add(&thinking.path("type"), Value::String(kind), FieldClass::Drop);
            None
        }
    };
    let display = thinking.text("display")?;
    others.rest(thinking, FieldClass::Silent);
    Ok(Some(Reasoning { mode, effort, display }))
}

fn budget(thinking: &mut Fields<'_>) -> Result<u64, Refusal> {
    let path = thinking.path("budget_tokens");
    let required = || Refusal::malformed(path.clone(), format!("`{path}` is required where thinking is enabled"));
    thinking.count("budget_tokens")?.ok_or_else(required)
}

fn metadata(fields: &mut Fields<'_>) -> Result<(EndUser, serde_json::Map<String, Value>), Refusal> {
    let Some(mut metadata) = fields.object("metadata")? else { return Ok(Default::default()) };
    let end_user = EndUser { user_id: metadata.text("user_id")?, ..EndUser::default() };
    let rest = metadata.rest().map(|(path, value)| (path.trim_start_matches("metadata.").to_owned(), value)).collect();
    Ok((end_user, rest))
}

/// Every field that is still there, with what another shape must do with it.
fn classified(fields: Fields<'_>, mut others: Others) -> Vec<OtherField> {
    for (name, value) in fields.rest() {
        match name.as_str() {
            "context_management" => context_management(value, &mut others),
            _ => {
                let class = class_of(&name, &value);
                others.add(&name, value, class);
            }
        }
    }
    others.fields.into_values().collect()
}

fn class_of(name: &str, value: &Value) -> FieldClass {
    match name {
        // `safeguards` is among them because its client takes a 400 that names it as the sign to go on without.
        "container" | "inference_geo" | "thread" | "compaction" | "safeguards" => FieldClass::Refuse,
        "mcp_servers" | "skills" if value.as_array().is_none_or(|list| !list.is_empty()) => FieldClass::Refuse,
        "speed" if value == "standard" => FieldClass::Silent,
        "speed" | "fallbacks" | "fallback_credit_token" | "billing_policy" | "user_profile_id" | "workspace_id" => {
            FieldClass::Drop
        }
        _ => FieldClass::Silent,
    }
}

/// Edits that clear are a provider's economy; one that compacts changes what the model sees.
fn context_management(value: Value, others: &mut Others) {
    let compacts = |edit: &Value| edit["type"].as_str().is_some_and(|kind| kind.starts_with("compact"));
    let compacts = value["edits"].as_array().is_some_and(|edits| edits.iter().any(compacts));
    let class = if compacts { FieldClass::Drop } else { FieldClass::Silent };
    others.add("context_management", value, class);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::request::{CacheMark, PartKind, Role};

    fn decode(value: Value) -> Request {
        decode_request(value.to_string().as_bytes()).expect("a good request")
    }

    fn minimal(extra: Value) -> Value {
        let mut body = json!({"model": "claude", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let (Value::Object(body_map), Value::Object(extra)) = (&mut body, extra) else { panic!("objects") };
        body_map.extend(extra);
        body
    }

    fn class(request: &Request, path: &str) -> Option<FieldClass> {
        request.other.iter().find(|field| field.path == path).map(|field| field.class)
    }

    #[test]
    fn reads_every_mode_of_thinking_beside_the_effort() {
        let mode = |thinking: Value| {
            let request = decode(minimal(json!({"thinking": thinking, "output_config": {"effort": "high"}})));
            request.reasoning.expect("said")
        };
        let said = |mode, display: Option<&str>| Reasoning {
            mode: Some(mode),
            effort: Some("high".into()),
            display: display.map(Into::into),
        };
        assert_eq!(mode(json!({"type": "disabled"})), said(ThinkingMode::Disabled, None));
        assert_eq!(
            mode(json!({"type": "adaptive", "display": "omitted"})),
            said(ThinkingMode::Adaptive, Some("omitted"))
        );
        assert_eq!(mode(json!({"type": "enabled", "budget_tokens": 2048})), said(ThinkingMode::Budget(2048), None));
        assert_eq!(mode(json!({"type": "between_tools"})), said(ThinkingMode::BetweenTools, None));
    }

    #[test]
    fn an_effort_without_thinking_leaves_the_mode_open() {
        let reasoning = decode(minimal(json!({"output_config": {"effort": "low"}}))).reasoning.expect("said");
        assert_eq!(reasoning, Reasoning { mode: None, effort: Some("low".into()), display: None });
    }

    #[test]
    fn an_enabled_thinking_without_a_budget_is_malformed() {
        let body = minimal(json!({"thinking": {"type": "enabled"}})).to_string();
        let refusal = decode_request(body.as_bytes()).expect_err("no budget");
        assert_eq!(refusal.param.as_deref(), Some("thinking.budget_tokens"));
    }

    #[test]
    fn classifies_the_fields_of_betas() {
        let request = decode(minimal(json!({
            "container": "c1", "inference_geo": "eu", "speed": "fast", "fallbacks": [{"model": "x"}], "tags": {"a": 1},
            "diagnostics": {}, "mcp_servers": [], "never_heard_of": 1,
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        })));
        assert_eq!(class(&request, "container"), Some(FieldClass::Refuse));
        assert_eq!(class(&request, "inference_geo"), Some(FieldClass::Refuse));
        assert_eq!(class(&request, "speed"), Some(FieldClass::Drop));
        assert_eq!(class(&request, "fallbacks"), Some(FieldClass::Drop));
        for silent in ["tags", "diagnostics", "mcp_servers", "never_heard_of", "context_management"] {
            assert_eq!(class(&request, silent), Some(FieldClass::Silent), "{silent}");
        }
    }

    #[test]
    fn a_compacting_edit_is_dropped_aloud() {
        let edits = json!({"context_management": {"edits": [{"type": "compact_20260112"}]}});
        assert_eq!(class(&decode(minimal(edits)), "context_management"), Some(FieldClass::Drop));
    }

    #[test]
    fn safeguards_are_refused_by_name() {
        assert_eq!(class(&decode(minimal(json!({"safeguards": {}}))), "safeguards"), Some(FieldClass::Refuse));
    }

    #[test]
    fn reads_metadata_stop_sequences_tier_and_a_cap_of_zero() {
        let request = decode(minimal(json!({
            "max_tokens": 0, "metadata": {"user_id": "u", "team": "t"}, "stop_sequences": ["a", "b"],
            "service_tier": "standard_only", "cache_control": {"type": "ephemeral", "ttl": "1h"},
        })));
        assert_eq!(request.output_cap, Some(0));
        assert_eq!(request.end_user.user_id.as_deref(), Some("u"));
        assert_eq!(request.metadata.get("team"), Some(&json!("t")));
        assert_eq!(request.stop, ["a", "b"]);
        assert_eq!(request.service_tier.as_deref(), Some("standard_only"));
        assert_eq!(request.cache.mark, Some(CacheMark { ttl: Some("1h".into()) }));
    }

    #[test]
    fn reads_an_output_schema_in_both_places() {
        let schema = json!({"type": "object", "properties": {}});
        let format = json!({"type": "json_schema", "schema": schema});
        let wanted =
            Some(OutputFormat::JsonSchema { name: None, description: None, schema: schema.clone(), strict: None });
        assert_eq!(decode(minimal(json!({"output_config": {"format": format}}))).format, wanted);
        assert_eq!(decode(minimal(json!({"output_format": format}))).format, wanted);
    }

    #[test]
    fn names_the_path_of_a_wrong_type() {
        let body = minimal(json!({"stop_sequences": ["a", 1]})).to_string();
        let refusal = decode_request(body.as_bytes()).expect_err("a number is no stop sequence");
        assert_eq!(refusal.param.as_deref(), Some("stop_sequences[1]"));
        assert!(refusal.malformed);
    }

    #[test]
    fn numbers_keep_their_spelling() {
        let body = br#"{"model":"m","messages":[],"temperature":1.0,"top_p":0.950}"#;
        let sampling = decode_request(body).expect("good").sampling;
        assert_eq!(sampling.temperature.map(|n| n.to_string()).as_deref(), Some("1.0"));
        assert_eq!(sampling.top_p.map(|n| n.to_string()).as_deref(), Some("0.950"));
    }

    #[test]
    fn the_system_prompt_comes_first() {
        let request = decode(minimal(json!({"system": "be brief"})));
        assert_eq!(request.turns[0].role, Role::System);
        assert!(matches!(&request.turns[0].parts[0].kind, PartKind::Text { text, .. } if text == "be brief"));
    }
}
