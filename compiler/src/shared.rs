//! What several kinds have in common: limits, budgets, instants, lists of patterns, words for broken references.

use std::fmt::Display;

use crds::Kind;
use jiff::{Timestamp, tz::TimeZoneDatabase};
use table::{Budget, BudgetAction, Globs, Limits, NanoUsd, ObjectRef, Period, ProviderLimits};

use crate::findings::Findings;

/// The share of what says none.
pub(crate) const WEIGHT: u32 = 100;

pub(crate) fn provider_limits(written: Option<&crds::ProviderLimits>) -> ProviderLimits {
    let Some(limits) = written else { return ProviderLimits::default() };
    let crds::ProviderLimits { rpm, rpd, tpm, tpd, concurrency } = *limits;
    ProviderLimits { rpm, rpd, tpm, tpd, concurrency }
}

pub(crate) fn limits(written: &crds::CallerLimits) -> Limits {
    let crds::CallerLimits { rpm, rpd, tpm, tpd, input_tpm, output_tpm, concurrency, burst_percent } = *written;
    Limits { rpm, rpd, tpm, tpd, input_tpm, output_tpm, concurrency, burst_percent: burst_percent.unwrap_or(0) }
}

/// The lists of a grant: an empty or absent allow list grants nothing.
pub(crate) fn granted(allow: Option<&Vec<String>>, deny: Option<&Vec<String>>) -> Globs {
    Globs { allow: allow.cloned().unwrap_or_default(), deny: deny.cloned().unwrap_or_default() }
}

/// The lists of a restriction: an absent allow list restricts nothing, an empty one lets nothing through. The table knows
/// only the former, so the latter becomes a deny list of everything.
pub(crate) fn restricted(allow: Option<&Vec<String>>, deny: Option<&Vec<String>>) -> Globs {
    match allow {
        Some(allow) if allow.is_empty() => Globs { allow: Vec::new(), deny: vec!["*".to_owned()] },
        Some(_) | None => granted(allow, deny),
    }
}

/// Words for a reference to an object that is there and may be named, but is wrong itself.
pub(crate) fn broken(kind: Kind, field: impl Display, id: &ObjectRef) -> String {
    format!("{field}: {kind} `{id}` cannot be used, its own conditions say why")
}

/// An instant, where the manifest says one.
pub(crate) fn instant(field: &str, written: Option<&crds::Instant>, found: &mut Findings) -> Option<Timestamp> {
    let written = written?;
    let instant = written.timestamp();
    if instant.is_none() {
        found.refuse(format!("{field} `{written}` must be an instant such as `2030-01-31T00:00:00Z`"));
    }
    instant
}

/// The budget of the field `field`; none where its amount is not money or its time zone does not exist.
pub(crate) fn budget(field: &str, written: &crds::Budget, found: &mut Findings) -> Option<Budget> {
    let amount = NanoUsd::parse(written.amount.as_str());
    let amount = amount.map_err(|error| found.refuse(format!("{field}.amount: {error}"))).ok();
    let timezone = timezone(&format!("{field}.timezone"), written.timezone.as_deref(), found);
    let mut alert_at_percent = written.alert_at_percent.clone().unwrap_or_default();
    alert_at_percent.sort_unstable();
    alert_at_percent.dedup();
    Some(Budget {
        amount: amount?,
        period: match written.period {
            crds::Period::Day => Period::Day,
            crds::Period::Week => Period::Week,
            crds::Period::Month => Period::Month,
            crds::Period::Total => Period::Total,
        },
        timezone: timezone?,
        on_exceeded: match written.on_exceeded {
            None | Some(crds::OnExceeded::Block) => BudgetAction::Block,
            Some(crds::OnExceeded::Alert) => BudgetAction::Alert,
        },
        alert_at_percent,
    })
}

/// The zone by its IANA spelling, from the data in the binary: what a machine has installed must not change a table.
fn timezone(field: &str, written: Option<&str>, found: &mut Findings) -> Option<String> {
    let name = written.unwrap_or("UTC");
    let zones = TimeZoneDatabase::bundled();
    if let Ok(zone) = zones.get(name) {
        return Some(zone.iana_name().unwrap_or(name).to_owned());
    }
    let all: Vec<String> = zones.available().map(|name| name.to_string()).collect();
    let hint = crate::resolve::did_you_mean(name, all.iter().map(String::as_str));
    found.refuse(format!("{field} `{name}` names no time zone of the IANA database, as `Europe/Berlin` does{hint}"));
    None
}
