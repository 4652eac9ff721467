//! What several kinds have in common: limits, budgets, lists of patterns.

use jiff::tz::TimeZone;
use table::{Budget, BudgetAction, Globs, Limits, NanoUsd, Period, ProviderLimits};

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
        _ => granted(allow, deny),
    }
}

/// Whether a name matches a pattern in which `*` is any run of characters and `?` any one.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            Some(_) | None => match star {
                // The last star takes one character more.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// A budget of the field `field`. Errs on amounts that are not money and on time zones that do not exist.
pub(crate) fn budget(field: &str, written: &crds::Budget) -> Result<Budget, String> {
    let amount = NanoUsd::parse(written.amount.as_str()).map_err(|error| format!("{field}.amount: {error}"))?;
    let timezone = written.timezone.clone().unwrap_or_else(|| "UTC".to_owned());
    TimeZone::get(&timezone).map_err(|_| {
        format!("{field}.timezone `{timezone}` is not a time zone of the IANA database: write one as `Europe/Berlin`")
    })?;
    let mut alert_at_percent = written.alert_at_percent.clone().unwrap_or_default();
    alert_at_percent.sort_unstable();
    alert_at_percent.dedup();
    Ok(Budget {
        amount,
        period: match written.period {
            crds::Period::Day => Period::Day,
            crds::Period::Week => Period::Week,
            crds::Period::Month => Period::Month,
            crds::Period::Total => Period::Total,
        },
        timezone,
        on_exceeded: match written.on_exceeded {
            None | Some(crds::OnExceeded::Block) => BudgetAction::Block,
            Some(crds::OnExceeded::Alert) => BudgetAction::Alert,
        },
        alert_at_percent,
    })
}
