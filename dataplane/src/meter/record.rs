//! The usage record: one for each request, the same for every sink. `docs/usage-record.md` describes each field.
//!
//! Holds names as they were at that time, never a credential, and nothing of what was said. Names of objects are written
//! `namespace/name`, and shared with the table that they are of.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use protocol::{WireShape, answer::StopReason, usage::Usage};
use serde::{Serialize, Serializer};
use table::NanoUsd;

/// The version of the schema; grows when a field changes its meaning or goes.
pub const SCHEMA: &str = "relay.usage/1";

/// The cost labels of a request whose relay key is not known.
static NO_LABELS: LazyLock<Arc<BTreeMap<String, String>>> = LazyLock::new(Arc::default);

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The id that the caller saw.
    pub request_id: Arc<str>,
    /// The trace that it belongs to, 32 hex digits.
    pub trace_id: Option<Hex<16>>,
    /// Its span within that trace, 16 hex digits: its own where spans are made, else the caller's.
    pub span_id: Option<Hex<8>>,
    /// When it came.
    pub started_at: Timestamp,
    /// What was asked for: `chat`, `embeddings`, and so on.
    pub operation: &'static str,
    /// The relay key; absent: not authenticated.
    pub relay_key: Option<Arc<str>>,
    /// Who pays: its cost label `team`, else its namespace.
    pub team: Option<Arc<str>>,
    /// Its policies.
    pub policies: Arc<[Arc<str>]>,
    /// Its cost labels.
    pub attributes: Arc<BTreeMap<String, String>>,
    /// The shape that the caller speaks.
    pub client_shape: Option<WireShape>,
    /// The shape of the host that answered.
    pub upstream_shape: Option<WireShape>,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// The model as the caller wrote it, cut to 256 characters.
    pub requested_model: Option<Arc<str>>,
    /// The public id of the model that it was resolved to.
    pub model: Option<Arc<str>>,
    /// The Model object.
    pub model_ref: Option<Arc<str>>,
    /// What the host calls the model.
    pub upstream_model: Option<Arc<str>>,
    /// The model that the answer names.
    pub answered_model: Option<String>,
    /// The host that answered.
    pub host: Option<Arc<str>>,
    /// The host key that it answered to.
    pub host_key: Option<Arc<str>>,
    /// The provider's id of the answer.
    pub upstream_id: Option<String>,
    /// Every attempt, in order.
    pub attempts: Vec<Attempt>,
    /// Tokens; absent: nothing was generated, as far as is known.
    pub usage: Option<Usage>,
    /// Images of the input.
    pub images: u64,
    /// What it cost; absent: not known.
    pub cost_nano_usd: Option<NanoUsd>,
    /// Where the price comes from.
    pub price_source: Option<Arc<str>>,
    /// What was reserved; absent: it did not come so far.
    pub reserved: Option<Reserved>,
    /// Whether limits were held to, or not checked, without the counters that replicas share.
    pub limits_degraded: bool,
    /// Budgets of which much is spent.
    pub budget_alerts: Vec<BudgetAlert>,
    /// The rule that refused it.
    pub refused_by: Option<RefusedBy>,
    /// From the request to the first content of its answer, in milliseconds.
    pub first_content_ms: Option<f64>,
    /// From the request to the end of its answer, in milliseconds.
    pub duration_ms: f64,
    /// The part that was spent within Relay until the answer began, in milliseconds.
    pub overhead_ms: Option<f64>,
    /// Why the answer ended.
    pub finish: Option<Cow<'static, str>>,
    /// Whether the caller went away before the end.
    pub cancelled: bool,
    /// Fields lost or changed in translation, of the request and of the answer.
    pub losses: Vec<Loss>,
    /// What the caller was told of it in `x-relay-warnings`.
    pub warnings: Vec<String>,
    /// The HTTP status that the caller saw; 499 where it went away before one was sent.
    pub status: u16,
    /// The code of the error that the caller saw, in its head or within its stream.
    pub error_code: Option<Cow<'static, str>>,
}

impl Record {
    /// The record of a request of which nothing is known yet.
    pub fn new(request_id: impl Into<Arc<str>>, operation: &'static str, started_at: Timestamp) -> Self {
        Self {
            schema: SCHEMA,
            request_id: request_id.into(),
            trace_id: None,
            span_id: None,
            started_at,
            operation,
            relay_key: None,
            team: None,
            policies: Arc::default(),
            attributes: NO_LABELS.clone(),
            client_shape: None,
            upstream_shape: None,
            streamed: false,
            requested_model: None,
            model: None,
            model_ref: None,
            upstream_model: None,
            answered_model: None,
            host: None,
            host_key: None,
            upstream_id: None,
            attempts: Vec::new(),
            usage: None,
            images: 0,
            cost_nano_usd: None,
            price_source: None,
            reserved: None,
            limits_degraded: false,
            budget_alerts: Vec::new(),
            refused_by: None,
            first_content_ms: None,
            duration_ms: 0.0,
            overhead_ms: None,
            finish: None,
            cancelled: false,
            losses: Vec::new(),
            warnings: Vec::new(),
            status: 0,
            error_code: None,
        }
    }

    /// Notes the model as the caller wrote it, cut so that a caller cannot fill the sink with it.
    pub fn asked_for(&mut self, model: &str) {
        self.requested_model = Some(cut(model).into());
    }

    /// As [`Record::asked_for`], of a model that was found, and has this public id: where that is how the caller wrote it, they
    /// are one text.
    pub fn asked_for_known(&mut self, model: &str, public: &Arc<str>) {
        self.requested_model = Some(if cut(model) == &**public { public.clone() } else { cut(model).into() });
    }
}

fn cut(model: &str) -> &str {
    // No character has less than a byte.
    if model.len() <= 256 {
        return model;
    }
    model.char_indices().nth(256).map_or(model, |(end, _)| &model[..end])
}

/// Bytes that are written as twice as many hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex<const BYTES: usize>(pub [u8; BYTES]);

impl<const BYTES: usize> Serialize for Hex<BYTES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

/// One attempt at an upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// The host.
    pub host: Arc<str>,
    /// The host key; absent: the host needs none.
    pub host_key: Option<Arc<str>>,
    /// What the host calls the model.
    pub upstream_model: Arc<str>,
    /// The host's shape.
    pub shape: WireShape,
    /// How it went; absent: it was under way when the request ended.
    pub outcome: Option<AttemptOutcome>,
    /// Why, in a few words.
    pub reason: Option<String>,
    /// The status that the upstream sent.
    pub status: Option<u16>,
    /// From the request's begin to this attempt's, in milliseconds.
    pub started_ms: f64,
    /// How long it took until it failed or its answer had ended, in milliseconds.
    pub duration_ms: Option<f64>,
}

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// Its answer went to the caller.
    Ok,
    /// The provider refused the key.
    Auth,
    /// The provider limited the key.
    RateLimited,
    /// The provider failed, or sent what is no answer.
    ServerError,
    /// No connection, or it broke.
    Unreachable,
    /// No content in time.
    Timeout,
    /// The provider refused the request itself.
    CallerFault,
    /// The caller went away.
    Cancelled,
}

impl AttemptOutcome {
    /// Every outcome, in its order.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Auth,
        Self::RateLimited,
        Self::ServerError,
        Self::Unreachable,
        Self::Timeout,
        Self::CallerFault,
        Self::Cancelled,
    ];

    /// Its label in metrics; the same word as in records.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Ok => "ok",
            AttemptOutcome::Auth => "auth",
            AttemptOutcome::RateLimited => "rate_limited",
            AttemptOutcome::ServerError => "server_error",
            AttemptOutcome::Unreachable => "unreachable",
            AttemptOutcome::Timeout => "timeout",
            AttemptOutcome::CallerFault => "caller_fault",
            AttemptOutcome::Cancelled => "cancelled",
        }
    }
}

/// What was reserved before the answer was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// Tokens of the input.
    pub input: u64,
    /// Tokens of the output.
    pub output: u64,
    /// Money; zero where no price is known.
    pub cost_nano_usd: NanoUsd,
}

/// A budget of which much is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetAlert {
    /// `relay_key` or `policy`.
    pub scope: &'static str,
    /// `budget_day`, and so on.
    pub rule: &'static str,
    /// The share that was reached.
    pub percent: u32,
}

/// The rule that refused a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedBy {
    /// `relay_key`, `policy`, `model`, `host_key` or `host`.
    pub scope: &'static str,
    /// `requests_per_minute`, and so on.
    pub rule: &'static str,
}

/// A field lost or changed in translation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// `dropped`, `approximated` or `clamped`.
    pub kind: &'static str,
    /// Its path in the caller's shape.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl From<&protocol::Loss> for Loss {
    fn from(loss: &protocol::Loss) -> Self {
        let kind = match loss.kind {
            protocol::LossKind::Clamped => "clamped",
            protocol::LossKind::Approximated => "approximated",
            protocol::LossKind::Dropped => "dropped",
        };
        Self { kind, field: loss.field.clone(), reason: loss.reason.clone() }
    }
}

/// The word of a record for why an answer ended; an unknown one as the upstream wrote it, cut to 64 characters.
pub fn finish(reason: &StopReason) -> Cow<'static, str> {
    let word = match reason {
        StopReason::EndTurn => "end_turn",
        StopReason::StopSequence => "stop_sequence",
        StopReason::MaxTokens => "max_tokens",
        StopReason::ToolUse => "tool_use",
        StopReason::Refusal => "refusal",
        StopReason::ContentFilter => "content_filter",
        StopReason::PauseTurn => "pause_turn",
        StopReason::ContextWindow => "context_window",
        StopReason::Compaction => "compaction",
        StopReason::Unknown(word) => return word.chars().take(64).collect::<String>().into(),
    };
    word.into()
}
