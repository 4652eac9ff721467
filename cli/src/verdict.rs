//! What there is to say about a directory: what reading found, and what compiling reported, each with its line.

use compiler::{Compilation, Condition, ConditionType, Reason, Report};
use crds::Kind;
use table::ObjectRef;

use crate::manifests::{
    Loaded, Place,
    finding::{Finding, Severity},
};

/// All findings, sorted by file and line.
pub(crate) fn findings(loaded: &Loaded, compilation: &Compilation) -> Vec<Finding> {
    let mut findings = loaded.findings.clone();
    let is_malformed =
        |report: &Report| loaded.resources.malformed.iter().any(|bad| bad.kind == report.kind && bad.id == report.id);
    for report in compilation.reports.iter().filter(|report| !is_malformed(report)) {
        if let Some(place) = loaded.places.get(&(report.kind, report.id.clone())) {
            findings.extend(of_report(report, place));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// Notes that DataPlanes have no say where there is no operator: all goes to the one process that there is.
pub(crate) fn without_fleets(loaded: &Loaded) -> Vec<Finding> {
    let fleets = loaded.places.iter().filter(|((kind, _), _)| *kind == Kind::DataPlane);
    let note = |((kind, id), place): (&(Kind, ObjectRef), &Place)| {
        let message = "ignored here: what a DataPlane selects and sets is for pods that follow an operator; here all of the \
                       directory is one table, and flags alone hold";
        Finding::of_field(place, "", Severity::Note, format!("{kind} {id}"), message)
    };
    fleets.map(note).collect()
}

/// How many of them refuse something.
pub(crate) fn refused(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Refused).count()
}

fn of_report(report: &Report, place: &Place) -> Vec<Finding> {
    let object = format!("{} {}", report.kind, report.id);
    let mut findings = Vec::new();
    for condition in &report.conditions {
        let Some(severity) = weight(report, condition) else { continue };
        for message in parts(&condition.message) {
            let mut finding = Finding::of_field(place, field_of(message), severity, &object, message);
            finding.reason = Some(format!("{:?}", condition.reason));
            findings.push(finding);
        }
    }
    findings.extend(report.unmatched_globs.iter().map(|told| unmatched(told, place, &object)));
    findings
}

/// Whether a condition is worth a word, and how much. Ready repeats what the others say, unless it stands alone.
fn weight(report: &Report, condition: &Condition) -> Option<Severity> {
    match (condition.r#type, condition.status) {
        (ConditionType::Accepted | ConditionType::ResolvedRefs, false) => Some(Severity::Refused),
        (ConditionType::Accepted, true) if !condition.message.is_empty() => Some(Severity::Warning),
        (ConditionType::Ready, false) if !report.is_refused() => match condition.reason {
            Reason::Paused | Reason::Revoked | Reason::HostDisabled => Some(Severity::Note),
            _ => Some(Severity::Warning),
        },
        _ => None,
    }
}

/// A condition tells several things in one message, each beginning with its field.
fn parts(message: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = message;
    while let Some(cut) = ["; spec.", "; metadata."].iter().filter_map(|mark| rest.find(mark)).min() {
        parts.push(&rest[..cut]);
        rest = &rest[cut + 2..];
    }
    parts.push(rest);
    parts
}

/// The path that a message begins with; empty where it begins with none.
fn field_of(message: &str) -> &str {
    let message = message.trim_start_matches('`');
    if !message.starts_with("spec") && !message.starts_with("metadata") {
        return "";
    }
    let end = message.find([' ', ':', '`', ',', ';']).unwrap_or(message.len());
    message[..end].trim_end_matches('.')
}

/// A pattern that matches nothing is told with its field, and perhaps with what it should have been.
fn unmatched(told: &str, place: &Place, object: &str) -> Finding {
    let (pattern, hint) = told.split_once("; ").map_or((told, None), |(pattern, hint)| (pattern, Some(hint)));
    let kind = if told.starts_with("spec.hosts") { Kind::Host } else { Kind::Model };
    let hint = hint.unwrap_or("is it misspelt?");
    let message = format!("{pattern} matches no {kind}; {hint}");
    Finding::of_field(place, field_of(told), Severity::Warning, object, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_where_the_next_field_begins() {
        let message = "spec.a `x` names no Host; did you mean `y`?; spec.b[1]: no";
        assert_eq!(parts(message), ["spec.a `x` names no Host; did you mean `y`?", "spec.b[1]: no"]);
        assert_eq!(parts(message).into_iter().map(field_of).collect::<Vec<_>>(), ["spec.a", "spec.b[1]"]);
        assert_eq!(field_of("another RelayKey has the same token"), "");
        assert_eq!(field_of("`spec.revoked` is true"), "spec.revoked");
    }
}
