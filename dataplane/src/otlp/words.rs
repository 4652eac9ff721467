//! Facts of a request in OpenTelemetry's words: its conventions for generative AI, and `relay.` for the rest.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
};

use crate::meter::record::Record;

/// Who says it.
pub(crate) fn resource() -> Resource {
    let mut attributes = Attributes::default();
    attributes.text("service.name", "relay");
    attributes.text("service.version", env!("CARGO_PKG_VERSION"));
    Resource { attributes: attributes.0, ..Resource::default() }
}

/// The part of it that says it.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "relay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// What spans and logs say alike of a request: names, counts and outcomes, and nothing that a provider wrote but the names
/// of its model and of its answer, and why this ended.
pub(crate) fn of_request(record: &Record) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.text("gen_ai.operation.name", record.operation);
    attributes.maybe("gen_ai.request.model", record.requested_model.as_deref());
    attributes.maybe("gen_ai.response.model", record.answered_model.as_deref());
    attributes.maybe("gen_ai.response.id", record.upstream_id.as_deref());
    if let Some(finish) = &record.finish {
        attributes.list("gen_ai.response.finish_reasons", [finish]);
    }
    attributes.maybe("gen_ai.provider.name", record.upstream_shape.map(|shape| shape.provider()));
    if let Some(usage) = &record.usage {
        attributes.count("gen_ai.usage.input_tokens", usage.input_total());
        attributes.count("gen_ai.usage.output_tokens", usage.output);
        attributes.count("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
        attributes.count("gen_ai.usage.cache_creation.input_tokens", usage.cache_write());
        attributes.count("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
        attributes.truth("relay.usage.estimated", usage.estimated);
    }
    attributes.count("http.response.status_code", u64::from(record.status));
    attributes.maybe("error.type", record.error_code.as_deref());
    attributes.text("relay.request_id", &*record.request_id);
    attributes.maybe("relay.key", record.relay_key.as_deref());
    attributes.maybe("relay.team", record.team.as_deref());
    attributes.maybe("relay.model", record.model.as_deref());
    attributes.maybe("relay.host", record.host.as_deref());
    attributes.maybe("relay.client_shape", record.client_shape.map(|shape| shape.to_string()));
    attributes.count("relay.attempts", record.attempts.len() as u64);
    attributes.truth("relay.streamed", record.streamed);
    attributes.truth("relay.cancelled", record.cancelled);
    if let Some(cost) = record.cost_nano_usd {
        attributes.count("relay.cost_nano_usd", cost.0);
    }
    if let Some(first_content) = record.first_content_ms {
        attributes.number("relay.first_content_ms", first_content);
    }
    attributes
}

/// Named values.
#[derive(Default)]
pub(crate) struct Attributes(pub(crate) Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: impl Into<String>, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.into(), value, ..KeyValue::default() });
    }

    pub(crate) fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.put(key, Value::StringValue(value.into()));
    }

    pub(crate) fn maybe(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(crate) fn list(&mut self, key: &str, values: impl IntoIterator<Item = impl ToString>) {
        let value = |text: String| AnyValue { value: Some(Value::StringValue(text)) };
        let values = values.into_iter().map(|text| value(text.to_string())).collect();
        self.put(key, Value::ArrayValue(ArrayValue { values }));
    }

    pub(crate) fn count(&mut self, key: impl Into<String>, value: u64) {
        self.put(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    pub(crate) fn number(&mut self, key: &str, value: f64) {
        self.put(key, Value::DoubleValue(value));
    }

    pub(crate) fn truth(&mut self, key: &str, value: bool) {
        self.put(key, Value::BoolValue(value));
    }
}

/// Since the epoch, as OTLP counts.
pub(crate) fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}
