//! What several kinds share: references, namespace grants, limits, budgets.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;
use crate::text::Amount;

/// A reference to another Relay object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Namespace of the object. Absent: the namespace of the object that holds this reference. Another namespace works
    /// only where the referenced object's `allowedNamespaces` grants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub namespace: Option<String>,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. Always in the namespace of the object that holds this reference.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// Key within the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::DATA_KEY))]
    pub key: String,
}

choices! {
    /// Which namespaces may refer to an object.
    GrantFrom {
        /// Its own namespace only.
        Same = "Same",
        /// Every namespace.
        All = "All",
        /// Namespaces whose labels match.
        Selector = "Selector",
    }
}

/// The namespaces whose objects may refer to this one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
    .message("selector must be set when from is Selector, and only then"))]
pub struct AllowedNamespaces {
    /// `Same`: only the namespace of this object. `All`: every namespace. `Selector`: the namespaces that `selector`
    /// matches, and this one.
    pub from: GrantFrom,
    /// Which namespaces, by their labels. Needed with `from: Selector`, refused otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// A label selector over namespaces: all of its parts must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)")
    .message("an empty selector would match every namespace: write from: All to say so"))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have with exactly these values, such as `kubernetes.io/metadata.name: team-a`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Labels>")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Conditions on labels that a namespace must meet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Option<Vec<LabelRequirement>>,
}

choices! {
    /// How a label is compared.
    LabelOperator {
        /// The value is one of the given.
        In = "In",
        /// The label is absent, or its value is none of the given.
        NotIn = "NotIn",
        /// The label is there.
        Exists = "Exists",
        /// The label is not there.
        DoesNotExist = "DoesNotExist",
    }
}

/// A condition on one label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)")
    .message("values must be given with In and NotIn, and only with these"))]
pub struct LabelRequirement {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// `In` and `NotIn` compare with `values`; `Exists` and `DoesNotExist` only look for the key.
    pub operator: LabelOperator,
    /// The values for `In` and `NotIn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub values: Option<Vec<String>>,
}

/// Ceilings on a provider's side: of one credential, or of one whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLimits {
    /// Requests per minute. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpm: Option<u64>,
    /// Requests per day. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpd: Option<u64>,
    /// Tokens per minute: all input (cached included) plus all output (reasoning included). Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpm: Option<u64>,
    /// Tokens per day, counted as `tpm` counts them. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpd: Option<u64>,
    /// Requests in flight at the same time. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
}

/// Ceilings on a caller's side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallerLimits {
    /// Requests per minute. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpm: Option<u64>,
    /// Requests per day. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub rpd: Option<u64>,
    /// Tokens per minute: all input (cached included) plus all output (reasoning included). Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpm: Option<u64>,
    /// Tokens per day, counted as `tpm` counts them. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub tpd: Option<u64>,
    /// Input tokens per minute, cache reads and writes included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub input_tpm: Option<u64>,
    /// Output tokens per minute, reasoning included. Absent: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000u64))]
    pub output_tpm: Option<u64>,
    /// Requests in flight at the same time. Absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
    /// How far a limit per minute may be exceeded for a moment, in percent of it; the next minute pays it back. Absent: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub burst_percent: Option<u32>,
}

choices! {
    /// The stretch of the calendar over which a budget counts.
    Period {
        /// From midnight to midnight.
        Day = "Day",
        /// From Monday to Sunday.
        Week = "Week",
        /// From the first to the last of the month.
        Month = "Month",
        /// For ever: it never resets.
        Total = "Total",
    }
}

choices! {
    /// What happens at the end of a budget.
    OnExceeded {
        /// Requests are refused until the period ends.
        Block = "Block",
        /// Requests go on; a metric and a warning say so.
        Alert = "Alert",
    }
}

/// A sum of money for a stretch of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// US dollars as a decimal string, such as `"250"` or `"12.50"`: at most 9000000, with six decimals at most. `"0"`
    /// lets nothing through that has a price. Requests whose model has no price do not count.
    pub amount: Amount,
    /// `Day`, `Week` (from Monday), `Month`, or `Total` (never resets).
    pub period: Period,
    /// IANA name of the time zone in which days, weeks and months begin, such as `Europe/Berlin`. Absent: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = patterns::TIME_ZONE))]
    pub timezone: Option<String>,
    /// `Block` refuses requests until the period ends; `Alert` lets them pass and says so. Absent: `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exceeded: Option<OnExceeded>,
    /// Shares of the amount, in percent, at which a warning is raised. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(range(min = 1, max = 1000)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub alert_at_percent: Option<Vec<u32>>,
}

/// Stands for a map of labels in schemas.
pub(crate) enum Labels {}

impl schemars::JsonSchema for Labels {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Labels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": 16,
            "additionalProperties": {"type": "string", "maxLength": 63}
        })
    }
}
