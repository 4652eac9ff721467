//! Tokens in this shape: caches stand beside the input, and parts of a stream's usage come again and again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::usage::Usage;

/// Usage as the wire gives it, field by field: the last value that is not null counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WireUsage {
    fields: Map<String, Value>,
}

impl WireUsage {
    /// Takes what another event says. True where it said anything.
    pub(super) fn merge(&mut self, usage: Option<&Value>) -> bool {
        let Some(Value::Object(usage)) = usage else { return false };
        for (key, value) in usage.iter().filter(|(_, value)| !value.is_null()) {
            self.fields.insert(key.clone(), value.clone());
        }
        !usage.is_empty()
    }

    /// The tier that served.
    pub(super) fn service_tier(&self) -> Option<String> {
        self.fields.get("service_tier").and_then(Value::as_str).map(str::to_owned)
    }

    /// Everything, each token once. None: nothing was said.
    pub(super) fn usage(&self) -> Option<Usage> {
        if self.fields.is_empty() {
            return None;
        }
        let mut usage = counted(&self.fields);
        usage.server_tools = server_tools(self.fields.get("server_tool_use"));
        // The upstream adds up all iterations but those that compact.
        let iterations = self.fields.get("iterations").and_then(Value::as_array);
        for iteration in iterations.into_iter().flatten().filter_map(Value::as_object) {
            if iteration.get("type").is_some_and(|kind| kind == "compaction") {
                add(&mut usage, &counted(iteration));
            }
        }
        Some(usage)
    }
}

/// What the usage object of a whole answer says.
pub(super) fn of(usage: &Value) -> Option<Usage> {
    let mut wire = WireUsage::default();
    wire.merge(Some(usage));
    wire.usage()
}

fn counted(fields: &Map<String, Value>) -> Usage {
    let count = |key: &str| fields.get(key).and_then(Value::as_u64);
    let within = |object: &str, key: &str| fields.get(object).and_then(|value| value.get(key)).and_then(Value::as_u64);
    let hour = within("cache_creation", "ephemeral_1h_input_tokens").unwrap_or(0);
    let five_minutes = within("cache_creation", "ephemeral_5m_input_tokens").unwrap_or(0);
    // The sum may be newer than its parts: a stream repeats it alone.
    let written = count("cache_creation_input_tokens").unwrap_or(0).max(hour.saturating_add(five_minutes));
    let output = count("output_tokens").unwrap_or(0);
    Usage {
        input: count("input_tokens").unwrap_or(0),
        cache_read: count("cache_read_input_tokens").unwrap_or(0),
        cache_write_5m: written - hour,
        cache_write_1h: hour,
        output,
        reasoning: within("output_tokens_details", "thinking_tokens").unwrap_or(0).min(output),
        ..Usage::default()
    }
}

fn server_tools(value: Option<&Value>) -> BTreeMap<String, u64> {
    let Some(Value::Object(counts)) = value else { return BTreeMap::new() };
    let used = counts.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
    used.filter(|(_, count)| *count > 0).collect()
}

fn add(usage: &mut Usage, more: &Usage) {
    for (sum, count) in [
        (&mut usage.input, more.input),
        (&mut usage.cache_read, more.cache_read),
        (&mut usage.cache_write_5m, more.cache_write_5m),
        (&mut usage.cache_write_1h, more.cache_write_1h),
        (&mut usage.output, more.output),
        (&mut usage.reasoning, more.reasoning),
    ] {
        *sum = sum.saturating_add(count);
    }
}

/// Usage for the wire.
pub(super) fn encode(usage: &Usage) -> Value {
    let mut wire = json!({
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write(),
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
    });
    if usage.reasoning > 0 {
        wire["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    if !usage.server_tools.is_empty() {
        // SDKs require both of these.
        let mut counts = json!({"web_search_requests": 0, "web_fetch_requests": 0});
        for (name, count) in &usage.server_tools {
            counts[name] = json!(count);
        }
        wire["server_tool_use"] = counts;
    }
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Usage {
        let mut wire = WireUsage::default();
        assert!(wire.merge(Some(&value)));
        wire.usage().expect("something was said")
    }

    #[test]
    fn caches_stand_beside_the_input() {
        let usage = read(json!({
            "input_tokens": 3, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "output_tokens_details": {"thinking_tokens": 5}, "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        }));
        assert_eq!((usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h), (3, 100, 10, 20));
        assert_eq!((usage.input_total(), usage.output, usage.reasoning), (133, 7, 5));
        assert_eq!(usage.server_tools, BTreeMap::from([("web_search_requests".to_owned(), 1)]));
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let usage = Usage {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            output: 9,
            reasoning: 5,
            server_tools: BTreeMap::from([("web_search_requests".to_owned(), 2)]),
            ..Usage::default()
        };
        assert_eq!(read(encode(&usage)), usage);
    }

    #[test]
    fn the_last_value_that_is_not_null_counts() {
        let mut wire = WireUsage::default();
        wire.merge(Some(&json!({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 4})));
        wire.merge(Some(&json!({"input_tokens": null, "output_tokens": 20})));
        let usage = wire.usage().expect("said");
        assert_eq!((usage.input, usage.output, usage.cache_read), (10, 20, 4));
    }

    #[test]
    fn a_compaction_is_not_in_the_sums_and_is_added() {
        let usage = read(json!({"input_tokens": 10, "output_tokens": 2, "iterations": [
            {"type": "compaction", "input_tokens": 100, "output_tokens": 50}, {"type": "message", "input_tokens": 10, "output_tokens": 2},
        ]}));
        assert_eq!((usage.input, usage.output), (110, 52));
    }

    #[test]
    fn no_usage_is_none_not_zero() {
        let mut wire = WireUsage::default();
        assert!(!wire.merge(None));
        assert_eq!(wire.usage(), None);
    }
}
