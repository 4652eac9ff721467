//! The names of what can be limited: whose counter, and which rule on it. Knows no numbers.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use table::{ObjectRef, Period};

/// Whose counters. They are found by this name alone, so they survive every change of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// A relay key.
    RelayKey(ObjectRef),
    /// A policy, as far as one sharer uses it.
    Policy {
        /// The policy.
        policy: ObjectRef,
        /// Who counts together.
        sharer: Sharer,
    },
    /// A model within a policy, as far as one sharer uses it.
    Model {
        /// The policy.
        policy: ObjectRef,
        /// Who counts together.
        sharer: Sharer,
        /// The public model id.
        model: String,
    },
    /// A host key: the account at the provider.
    HostKey(ObjectRef),
    /// A host, whatever the key.
    Host(ObjectRef),
}

impl Scope {
    /// The kind of scope, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Scope::RelayKey(_) => "relay_key",
            Scope::Policy { .. } => "policy",
            Scope::Model { .. } => "model",
            Scope::HostKey(_) => "host_key",
            Scope::Host(_) => "host",
        }
    }

    /// The namespace whose counters they are: what is counted together by one call to a store.
    pub fn domain(&self) -> &str {
        match self {
            Scope::RelayKey(name) | Scope::HostKey(name) | Scope::Host(name) => &name.namespace,
            Scope::Policy { sharer, .. } | Scope::Model { sharer, .. } => match sharer {
                Sharer::Key(key) => &key.namespace,
                Sharer::Namespace(namespace) => namespace,
            },
        }
    }

    /// Whether callers may see the name: those of hosts and host keys may belong to others.
    pub fn faces_the_caller(&self) -> bool {
        match self {
            Scope::RelayKey(_) | Scope::Policy { .. } | Scope::Model { .. } => true,
            Scope::HostKey(_) | Scope::Host(_) => false,
        }
    }
}

/// Who counts together under a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sharer {
    /// One relay key by itself.
    Key(ObjectRef),
    /// All relay keys of one namespace.
    Namespace(String),
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// Requests.
    Requests,
    /// All input and all output.
    Tokens,
    /// All input.
    InputTokens,
    /// All output.
    OutputTokens,
}

/// Over which time a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Span {
    /// The last 60 seconds.
    Minute,
    /// The last 24 hours.
    Day,
}

impl Span {
    /// How long it is.
    pub fn length(self) -> Duration {
        match self {
            Span::Minute => Duration::from_secs(60),
            Span::Day => Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// A kind of rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// So much in any such time.
    Rate {
        /// Of what.
        counted: Counted,
        /// In which time.
        span: Span,
    },
    /// Requests in flight.
    Concurrency,
    /// Money in a calendar period.
    Budget(Period),
}

impl Rule {
    /// Every rule that can be set.
    pub const ALL: [Rule; 11] = [
        Rule::Rate { counted: Counted::Requests, span: Span::Minute },
        Rule::Rate { counted: Counted::Requests, span: Span::Day },
        Rule::Rate { counted: Counted::Tokens, span: Span::Minute },
        Rule::Rate { counted: Counted::Tokens, span: Span::Day },
        Rule::Rate { counted: Counted::InputTokens, span: Span::Minute },
        Rule::Rate { counted: Counted::OutputTokens, span: Span::Minute },
        Rule::Concurrency,
        Rule::Budget(Period::Day),
        Rule::Budget(Period::Week),
        Rule::Budget(Period::Month),
        Rule::Budget(Period::Total),
    ];

    /// Its label in metrics and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Rate { counted: Counted::Requests, span: Span::Minute } => "requests_per_minute",
            Rule::Rate { counted: Counted::Requests, span: Span::Day } => "requests_per_day",
            Rule::Rate { counted: Counted::Tokens, span: Span::Minute } => "tokens_per_minute",
            Rule::Rate { counted: Counted::Tokens, span: Span::Day } => "tokens_per_day",
            Rule::Rate { counted: Counted::InputTokens, span: Span::Minute } => "input_tokens_per_minute",
            Rule::Rate { counted: Counted::InputTokens, span: Span::Day } => "input_tokens_per_day",
            Rule::Rate { counted: Counted::OutputTokens, span: Span::Minute } => "output_tokens_per_minute",
            Rule::Rate { counted: Counted::OutputTokens, span: Span::Day } => "output_tokens_per_day",
            Rule::Concurrency => "concurrency",
            Rule::Budget(Period::Day) => "budget_day",
            Rule::Budget(Period::Week) => "budget_week",
            Rule::Budget(Period::Month) => "budget_month",
            Rule::Budget(Period::Total) => "budget_total",
        }
    }
}

impl fmt::Display for Rule {
    /// For people, to stand after a number: `requests per minute`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Rate { counted: Counted::Requests, span: Span::Minute } => "requests per minute",
            Rule::Rate { counted: Counted::Requests, span: Span::Day } => "requests per day",
            Rule::Rate { counted: Counted::Tokens, span: Span::Minute } => "tokens per minute",
            Rule::Rate { counted: Counted::Tokens, span: Span::Day } => "tokens per day",
            Rule::Rate { counted: Counted::InputTokens, span: Span::Minute } => "input tokens per minute",
            Rule::Rate { counted: Counted::InputTokens, span: Span::Day } => "input tokens per day",
            Rule::Rate { counted: Counted::OutputTokens, span: Span::Minute } => "output tokens per minute",
            Rule::Rate { counted: Counted::OutputTokens, span: Span::Day } => "output tokens per day",
            Rule::Concurrency => "requests at once",
            Rule::Budget(Period::Day) => "daily budget",
            Rule::Budget(Period::Week) => "weekly budget",
            Rule::Budget(Period::Month) => "monthly budget",
            Rule::Budget(Period::Total) => "total budget",
        })
    }
}

/// A rule of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// Whose.
    pub scope: Arc<Scope>,
    /// Which.
    pub rule: Rule,
}
