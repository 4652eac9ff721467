//! What a Host's surface takes beside its shape: a preset from the data file, and the manifest's own words over it.

use std::{collections::BTreeMap, sync::LazyLock};

use table::{Dialect, ErrorEnvelope, MaxTokensField, ReasoningField, StreamUsage, SystemRole, ToolCallIds};

use crate::resolve::did_you_mean;

static PRESETS: LazyLock<BTreeMap<String, Dialect>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/dialects.json")).expect("the checked-in presets are read by a test")
});

/// The dialect of a manifest. Errs on a preset that does not exist.
pub(crate) fn dialect(written: Option<&crds::Dialect>) -> Result<Dialect, String> {
    let Some(written) = written else { return Ok(Dialect::default()) };
    let mut dialect = match &written.preset {
        None => Dialect::default(),
        Some(preset) => PRESETS.get(preset).cloned().ok_or_else(|| {
            let hint = did_you_mean(preset, PRESETS.keys().map(String::as_str));
            let known = PRESETS.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("spec.dialect.preset `{preset}` is not known{hint}; known are {known}")
        })?,
    };
    overlay(&mut dialect, written);
    Ok(dialect)
}

fn overlay(dialect: &mut Dialect, written: &crds::Dialect) {
    fn set<T, U>(place: &mut T, written: Option<U>, translate: impl FnOnce(U) -> T) {
        if let Some(written) = written {
            *place = translate(written);
        }
    }
    set(&mut dialect.max_tokens_field, written.max_tokens_field, |field| match field {
        crds::MaxTokensField::MaxTokens => MaxTokensField::MaxTokens,
        crds::MaxTokensField::MaxCompletionTokens => MaxTokensField::MaxCompletionTokens,
    });
    set(&mut dialect.stream_usage, written.usage_in_stream, |usage| match usage {
        crds::UsageInStream::Options => StreamUsage::Options,
        crds::UsageInStream::Always => StreamUsage::Always,
        crds::UsageInStream::None => StreamUsage::Never,
    });
    set(&mut dialect.reasoning_field, written.reasoning_field, |field| match field {
        crds::ReasoningField::ReasoningContent => ReasoningField::ReasoningContent,
        crds::ReasoningField::Reasoning => ReasoningField::Reasoning,
        crds::ReasoningField::ReasoningDetails => ReasoningField::ReasoningDetails,
        crds::ReasoningField::ContentParts => ReasoningField::ContentParts,
    });
    set(&mut dialect.system_role, written.system_role, |role| match role {
        crds::SystemRole::System => SystemRole::System,
        crds::SystemRole::Developer => SystemRole::ByModel,
    });
    set(&mut dialect.error_envelope, written.error_envelope, |envelope| match envelope {
        crds::ErrorEnvelope::OpenAI => ErrorEnvelope::Enveloped,
        crds::ErrorEnvelope::Bare => ErrorEnvelope::Bare,
        crds::ErrorEnvelope::Detail => ErrorEnvelope::Detail,
    });
    set(&mut dialect.tool_call_ids, written.tool_call_ids, |ids| match ids {
        crds::ToolCallIds::Any => ToolCallIds::Any,
        crds::ToolCallIds::Alnum9 => ToolCallIds::Alnum9,
    });
    set(&mut dialect.json_schema, written.json_schema, |is| is);
    set(&mut dialect.tool_strict, written.tool_strict, |is| is);
    set(&mut dialect.parallel_tool_calls, written.parallel_tool_calls, |is| is);
    set(&mut dialect.image_urls, written.image_urls, |is| is);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_says_only_what_a_dialect_knows() {
        let presets: serde_json::Value = serde_json::from_str(include_str!("../data/dialects.json")).unwrap();
        let known = serde_json::to_value(Dialect::default()).unwrap();
        for (name, preset) in presets.as_object().unwrap() {
            for field in preset.as_object().unwrap().keys() {
                assert!(known.get(field).is_some(), "{name}.{field}");
            }
        }
    }

    #[test]
    fn every_preset_can_be_named_in_a_manifest() {
        for preset in PRESETS.keys() {
            let host = serde_json::json!({
                "apiVersion": "llmrelay.io/v1alpha1",
                "kind": "Host",
                "metadata": {"name": "h"},
                "spec": {"protocol": "OpenAI", "baseURL": "https://h.example", "dialect": {"preset": preset}},
            });
            assert_eq!(crds::validate_schema(crds::Kind::Host, &host), [], "{preset}");
        }
    }
}
