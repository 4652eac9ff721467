//! Tokens in this shape: caches stand beside the input, and parts of a stream's usage come again and again.

use std::collections::BTreeMap;

use crate::{
    json::{Json, Object, json},
    skim::{Kind, Reader, once},
    usage::Usage,
};

/// Usage as the wire gives it, field by field: the last value that is not null counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WireUsage {
    said: bool,
    counted: Counted,
    /// What compactions took, which the sums do not hold.
    compacted: Usage,
    server_tools: BTreeMap<String, u64>,
    service_tier: Option<String>,
}

/// The counts of an answer or of one of its iterations.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counted {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    cache_written_5m: Option<u64>,
    cache_written_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl WireUsage {
    /// Takes what another event says. True where it said anything.
    pub(super) fn merge(&mut self, usage: Option<&Json<'_>>) -> bool {
        let Some(Json::Object(usage)) = usage else { return false };
        usage.iter().filter(|(_, value)| !value.is_null()).for_each(|(key, value)| self.take(key, value));
        !usage.is_empty()
    }

    fn take(&mut self, key: &str, value: &Json<'_>) {
        self.said = true;
        match key {
            "service_tier" => self.service_tier = value.as_str().map(str::to_owned),
            "server_tool_use" => self.server_tools = server_tools(value),
            "iterations" => self.compacted = compacted(value),
            key => self.counted.take(key, value),
        }
    }

    /// The tier that served.
    pub(super) fn service_tier(&self) -> Option<String> {
        self.service_tier.clone()
    }

    /// Everything, each token once. None: nothing was said.
    pub(super) fn usage(&self) -> Option<Usage> {
        if !self.said {
            return None;
        }
        let mut usage = self.counted.usage();
        usage.server_tools.clone_from(&self.server_tools);
        add(&mut usage, &self.compacted);
        Some(usage)
    }
}

/// What the value of `usage` says that comes next in a whole answer, where it is of plain form; none: the decoder tells.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Option<Usage>> {
    if reader.kind()? != Kind::Object {
        return reader.skip().map(|_| None);
    }
    let (mut wire, mut nested, mut others) = (WireUsage::default(), [None; 5], false);
    reader.object(|reader, name| {
        let place = match name {
            b"cache_creation" => 0,
            b"output_tokens_details" => 1,
            b"service_tier" => 2,
            b"server_tool_use" => 3,
            b"iterations" => 4,
            name => match wire.counted.place(name) {
                Some(place) => return read_count(reader, place, &mut wire.said),
                None => {
                    if !reader.takes_null()? {
                        reader.skip()?;
                        others = true;
                    }
                    return Some(());
                }
            },
        };
        once(&mut nested[place], ())?;
        if !reader.takes_null()? {
            let value = Json::parse_str(reader.skip()?).ok()?;
            wire.take(std::str::from_utf8(name).ok()?, &value);
        }
        Some(())
    })?;
    // Whether one of the others is null in the end is not known: its name may stand twice.
    (wire.said || !others).then(|| wire.usage())
}

fn read_count(reader: &mut Reader<'_>, place: &mut Option<u64>, said: &mut bool) -> Option<()> {
    if place.is_some() {
        return None;
    }
    if !reader.takes_null()? {
        *place = Some(reader.count()?);
        *said = true;
    }
    Some(())
}

impl Counted {
    fn take(&mut self, key: &str, value: &Json<'_>) {
        match key {
            "cache_creation" => {
                self.cache_written_5m = value["ephemeral_5m_input_tokens"].as_u64();
                self.cache_written_1h = value["ephemeral_1h_input_tokens"].as_u64();
            }
            "output_tokens_details" => self.thinking = value["thinking_tokens"].as_u64(),
            key => {
                if let Some(place) = self.place(key.as_bytes()) {
                    *place = value.as_u64();
                }
            }
        }
    }

    /// Where the count of a field goes.
    fn place(&mut self, key: &[u8]) -> Option<&mut Option<u64>> {
        match key {
            b"input_tokens" => Some(&mut self.input),
            b"cache_read_input_tokens" => Some(&mut self.cache_read),
            b"cache_creation_input_tokens" => Some(&mut self.cache_written),
            b"output_tokens" => Some(&mut self.output),
            _ => None,
        }
    }

    fn usage(&self) -> Usage {
        let hour = self.cache_written_1h.unwrap_or(0);
        let five_minutes = self.cache_written_5m.unwrap_or(0);
        // The sum may be newer than its parts: a stream repeats it alone.
        let written = self.cache_written.unwrap_or(0).max(hour.saturating_add(five_minutes));
        let output = self.output.unwrap_or(0);
        Usage {
            input: self.input.unwrap_or(0),
            cache_read: self.cache_read.unwrap_or(0),
            cache_write_5m: written - hour,
            cache_write_1h: hour,
            output,
            reasoning: self.thinking.unwrap_or(0).min(output),
            ..Usage::default()
        }
    }
}

/// The upstream adds up all iterations but those that compact.
fn compacted(iterations: &Json<'_>) -> Usage {
    let mut sum = Usage::default();
    let iterations = iterations.as_array().unwrap_or_default().iter().filter_map(Json::as_object);
    for iteration in iterations.filter(|iteration| iteration.get("type").is_some_and(|kind| *kind == *"compaction")) {
        let mut counted = Counted::default();
        iteration.iter().for_each(|(key, value)| counted.take(key, value));
        add(&mut sum, &counted.usage());
    }
    sum
}

fn server_tools(value: &Json<'_>) -> BTreeMap<String, u64> {
    let Some(counts) = value.as_object() else { return BTreeMap::new() };
    let used = counts.iter().filter_map(|(name, count)| Some((name.to_owned(), count.as_u64()?)));
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
pub(super) fn encode(usage: &Usage) -> Object<'static> {
    let created = json!({
        "ephemeral_5m_input_tokens": usage.cache_write_5m,
        "ephemeral_1h_input_tokens": usage.cache_write_1h,
    });
    let mut wire = Object::of([
        ("input_tokens", usage.input.into()),
        ("cache_creation_input_tokens", usage.cache_write().into()),
        ("cache_read_input_tokens", usage.cache_read.into()),
        ("cache_creation", created),
        ("output_tokens", usage.output.into()),
    ]);
    if usage.reasoning > 0 {
        wire.insert("output_tokens_details", json!({"thinking_tokens": usage.reasoning}));
    }
    if !usage.server_tools.is_empty() {
        // SDKs require both of these.
        let mut counts = Object::of([("web_search_requests", 0_u64.into()), ("web_fetch_requests", 0_u64.into())]);
        for (name, count) in &usage.server_tools {
            counts.insert(name.clone(), *count);
        }
        wire.insert("server_tool_use", counts);
    }
    wire
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Usage {
        let mut wire = WireUsage::default();
        assert!(wire.merge(Some(&Json::from(&value))));
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
        assert_eq!(read(Json::from(encode(&usage)).to_value()), usage);
    }

    #[test]
    fn the_last_value_that_is_not_null_counts() {
        let mut wire = WireUsage::default();
        wire.merge(Some(&Json::from(&json!({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 4}))));
        wire.merge(Some(&Json::from(&json!({"input_tokens": null, "output_tokens": 20}))));
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
