//! Which conditions an object has: what the compiler found, what the fleet acknowledged, what became of its token, and
//! what follows from all of them. Knows no clock but the `now` that it is given.

use compiler::{ConditionType, Reason, Report};
use crds::{BreakerState, KeyBreaker, Kind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::said::{Said, whole_seconds};

/// No object may have more: the CRDs say so.
pub const MOST: usize = 8;

/// Longest message that is written; the CRDs allow more, but nobody reads more.
const LONGEST: usize = 4_096;

/// Every reason that is ever said: a closed set, of which `docs/troubleshooting.md` has a section each.
pub const REASONS: [&str; 22] = [
    "Accepted",
    "ResolvedRefs",
    "Programmed",
    "Ready",
    "Issued",
    "Healthy",
    "Invalid",
    "Conflicted",
    "RefNotFound",
    "RefNotPermitted",
    "SecretNotFound",
    "SecretKeyMissing",
    "SecretEmpty",
    "HostDisabled",
    "NoHealthyKey",
    "Pending",
    "PartiallyProgrammed",
    "Nacked",
    "NoDataPlane",
    "Expired",
    "Revoked",
    "Paused",
];

/// One thing to say, not yet dated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The condition's type.
    pub of: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

impl Word {
    fn is(of: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(of, true, reason, message.into())
    }

    fn is_not(of: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(of, false, reason, message.into())
    }

    fn new(of: &'static str, status: bool, reason: &'static str, message: String) -> Self {
        debug_assert!(REASONS.contains(&reason), "`{reason}` is not among the reasons that are documented");
        Self { of, status, reason, message }
    }
}

/// Whether the fleet serves by an object as it was compiled last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Programmed {
    /// Every pod does.
    Everywhere,
    /// Some or all pods do not yet, and one of them is named.
    Waiting {
        /// How many do.
        by: usize,
        /// How many there are.
        of: usize,
        /// One that does not.
        for_pod: String,
    },
    /// Pods of which it is not known are all that is missing, or no pod is there: what was said before stands.
    Unsaid(Missing),
    /// No pod has been there for long.
    Deserted,
    /// A pod did not take it.
    Nacked {
        /// Which.
        pod: String,
        /// Why, in one word.
        code: String,
        /// Why, for people.
        message: String,
    },
    /// It is in the table only as one that cannot be used.
    NotInTable,
    /// It is usable, but no DataPlane selects it.
    Unselected,
    /// It is usable, but not by what the DataPlane selects that selects it.
    UnusableIn {
        /// Which.
        data_plane: String,
        /// Why, for people.
        why: String,
    },
    /// Of a DataPlane: there is nothing that it selects.
    SelectsNothing,
}

/// What is missing where it is not known whether an object is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// Any pod.
    Pods,
    /// Word of this pod.
    WordOf(String),
    /// Word of other replicas.
    Replicas,
}

impl Programmed {
    /// Whether acknowledgements may be on their way, so that it is worth while to wait a moment before saying anything.
    pub fn is_underway(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Unsaid(Missing::WordOf(_) | Missing::Replicas))
    }

    /// `is_lasting` says that what is underway has been so for long: only then is it taken back that an object is in effect.
    fn word(&self, judgement: &Judgement<'_>, said: &Said, generation: i64, refused: Option<&Word>) -> Word {
        const OF: &str = "Programmed";
        match self {
            Self::Unsaid(_) if said.was_programmed(generation) => Word::is(OF, "Programmed", ""),
            Self::Waiting { .. } if !judgement.is_lasting && said.was_programmed(generation) => {
                Word::is(OF, "Programmed", "")
            }
            Self::Everywhere => Word::is(OF, "Programmed", ""),
            Self::Unsaid(Missing::Pods) | Self::Deserted if judgement.report.kind == Kind::DataPlane => {
                Word::is_not(OF, "NoDataPlane", "no pod of this fleet is connected")
            }
            Self::Unsaid(Missing::Pods) | Self::Deserted => {
                Word::is_not(OF, "NoDataPlane", "no data plane is connected: nothing serves by this object")
            }
            Self::Unselected => {
                Word::is_not(OF, "NoDataPlane", "no DataPlane selects this object: nothing serves by it")
            }
            Self::UnusableIn { data_plane, why } => Word::is_not(
                OF,
                "Invalid",
                format!("DataPlane `{data_plane}` selects this object, but not all that it needs: {why}"),
            ),
            Self::SelectsNothing => {
                Word::is_not(OF, "NoDataPlane", "spec.selector selects no object: the fleet has nothing to serve")
            }
            Self::Unsaid(Missing::Replicas) => Word::is_not(
                OF,
                "Pending",
                "other replicas of the operator have not said yet what their data planes hold",
            ),
            Self::Unsaid(Missing::WordOf(pod)) => {
                Word::is_not(OF, "Pending", format!("data plane `{pod}` has not said yet what it holds"))
            }
            Self::Waiting { by: 0, of, for_pod } => {
                Word::is_not(OF, "Pending", format!("none of {of} data planes has it yet; waiting for `{for_pod}`"))
            }
            Self::Waiting { by, of, for_pod } => Word::is_not(
                OF,
                "PartiallyProgrammed",
                format!("{by} of {of} data planes have it; waiting for `{for_pod}`"),
            ),
            Self::Nacked { pod, code, message } => {
                Word::is_not(OF, "Nacked", format!("data plane `{pod}` did not take it ({code}): {message}"))
            }
            Self::NotInTable => {
                let reason = refused.map_or("Invalid", |word| word.reason);
                Word::is_not(OF, reason, "data planes cannot use this object: its other conditions say why")
            }
        }
    }
}

/// What became of the token of a RelayKey whose Secret this operator makes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Issue {
    /// The Secret is about to be made or read.
    Pending,
    /// It is there.
    Issued,
    /// A Secret of that name is there, and is not this RelayKey's.
    Conflicted(String),
}

/// All that is known of one object.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// What the compiler found.
    pub report: &'a Report,
    /// What the fleet acknowledged.
    pub programmed: &'a Programmed,
    /// Only of a RelayKey with `spec.secret`.
    pub issue: Option<&'a Issue>,
    /// When the object ends, if it does.
    pub expires_at: Option<Timestamp>,
    /// What data planes report of a HostKey; absent: nothing ever.
    pub breaker: Option<&'a KeyBreaker>,
    /// What is underway has been so for long.
    pub is_lasting: bool,
}

/// What to say of an object at `now`, in the order in which it is written. `said` is what is said of it already.
pub fn words(judgement: Judgement<'_>, said: &Said, generation: i64, now: Timestamp) -> Vec<Word> {
    let Judgement { report, programmed, issue, expires_at, breaker, .. } = judgement;
    let accepted = accepted(report, issue);
    let resolved = resolved(report, issue);
    let refused = [&accepted, &resolved].into_iter().find(|word| !word.status);
    let programmed_word = programmed.word(&judgement, said, generation, refused);
    let healthy = (report.kind == Kind::HostKey).then(|| healthy(breaker));
    // Other failures pass by themselves, or leave data planes that draw the key: Ready would only flap with them.
    let dead = healthy.as_ref().filter(|_| breaker.is_some_and(is_refused_everywhere));
    let expired =
        expires_at.filter(|end| *end <= now).map(|end| Word::is("Expired", "Expired", format!("it ended at {end}")));
    let issued = issue.map(issued);
    let revoked = compiled(report, ConditionType::Revoked);
    let conflicted = match issue {
        Some(Issue::Conflicted(message)) => Some(Word::is("Conflicted", "Conflicted", message.clone())),
        _ => compiled(report, ConditionType::Conflicted),
    };
    let own = compiled(report, ConditionType::Ready).filter(|word| !word.status);
    let obstacles = [Some(&accepted), Some(&resolved), own.as_ref(), issued.as_ref(), Some(&programmed_word), dead];
    let obstacle = obstacles.into_iter().flatten().find(|word| !word.status);
    let ready = match (&expired, obstacle) {
        (Some(expired), None) => Word::is_not("Ready", expired.reason, expired.message.clone()),
        (_, Some(obstacle)) => Word::is_not("Ready", obstacle.reason, obstacle.message.clone()),
        (None, None) => Word::is("Ready", "Ready", ""),
    };
    let progress = progress(programmed, &programmed_word, refused);
    // A key that is revoked for good does not need to be told that it has expired too.
    let ended = revoked.or(expired);
    // A DataPlane refers to nothing.
    let resolved = Some(resolved).filter(|_| report.kind != Kind::DataPlane);
    let said =
        [Some(accepted), resolved, Some(programmed_word), healthy, Some(ready), issued, ended, conflicted, progress];
    said.into_iter().flatten().map(shortened).collect()
}

/// What to say of an object whose author asked to leave it alone: all that was said, and that it is paused.
pub fn paused(said: &Said, generation: i64, now: Timestamp) -> Vec<Condition> {
    let kept =
        said.conditions.iter().filter(|condition| !["Reconciling", "Stalled"].contains(&condition.type_.as_str()));
    let message = "the annotation `llmrelay.io/paused` is `true`: this status is not kept up to date";
    let word = Word::is_not("Reconciling", "Paused", message);
    let mut kept: Vec<Condition> = kept.take(MOST - 1).cloned().collect();
    kept.extend(dated(vec![word], said, generation, now));
    kept
}

/// Dates words: what has the status that it had keeps its date.
pub fn dated(words: Vec<Word>, said: &Said, generation: i64, now: Timestamp) -> Vec<Condition> {
    let dated = words.into_iter().map(|word| {
        let status = if word.status { "True" } else { "False" };
        let before = said.condition(word.of).filter(|before| before.status == status);
        Condition {
            type_: word.of.to_owned(),
            status: status.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: before
                .map_or_else(|| Time(whole_seconds(now)), |before| before.last_transition_time.clone()),
            reason: word.reason.to_owned(),
            message: word.message,
        }
    });
    dated.collect()
}

fn accepted(report: &Report, issue: Option<&Issue>) -> Word {
    match issue {
        Some(Issue::Conflicted(message)) => Word::is_not("Accepted", "Conflicted", message.clone()),
        Some(Issue::Pending | Issue::Issued) | None => {
            compiled(report, ConditionType::Accepted).unwrap_or_else(|| Word::is("Accepted", "Accepted", ""))
        }
    }
}

/// Whether the token of a RelayKey is being made, or was made and is not compiled yet.
pub fn awaits_token(report: &Report, issue: Option<&Issue>) -> bool {
    match issue {
        Some(Issue::Pending) => true,
        Some(Issue::Issued) => lacks_secret(report),
        Some(Issue::Conflicted(_)) | None => false,
    }
}

fn lacks_secret(report: &Report) -> bool {
    let resolved = report.condition(ConditionType::ResolvedRefs).filter(|resolved| !resolved.status);
    resolved.is_some_and(|resolved| matches!(resolved.reason, Reason::SecretNotFound | Reason::SecretKeyMissing))
}

/// A Secret that this operator is about to make, or has made and not compiled yet, is not missing.
fn resolved(report: &Report, issue: Option<&Issue>) -> Word {
    let word =
        compiled(report, ConditionType::ResolvedRefs).unwrap_or_else(|| Word::is("ResolvedRefs", "ResolvedRefs", ""));
    let lacks_secret = lacks_secret(report);
    match issue {
        Some(Issue::Pending) if lacks_secret => {
            Word::is_not(word.of, "Pending", "spec.secret: the Secret with the token is being made")
        }
        Some(Issue::Issued) if lacks_secret => {
            Word::is_not(word.of, "Pending", "spec.secret: the Secret with the token was made, and is being read")
        }
        _ => word,
    }
}

/// Whether data planes draw a HostKey.
fn healthy(breaker: Option<&KeyBreaker>) -> Word {
    const OF: &str = "Healthy";
    let Some(breaker) = breaker.filter(|breaker| breaker.state != BreakerState::Closed) else {
        return Word::is(OF, "Healthy", "");
    };
    let class = breaker.class.as_deref().unwrap_or_default();
    let why = match class {
        "auth" => "the provider refuses the credential",
        "rateLimit" => "the provider limits its rate",
        "serverError" => "the provider answers with errors",
        "unreachable" => "the provider cannot be reached",
        other => other,
    };
    let (out, of) = (breaker.open_pods.unwrap_or_default(), breaker.pods.unwrap_or_default());
    Word::is_not(OF, "NoHealthyKey", format!("{out} of {of} data planes do not use this key for now: {why}"))
}

/// What does not heal by itself, and leaves no data plane that draws the key.
fn is_refused_everywhere(breaker: &KeyBreaker) -> bool {
    breaker.state == BreakerState::Open && breaker.class.as_deref() == Some("auth")
}

fn issued(issue: &Issue) -> Word {
    match issue {
        Issue::Issued => Word::is("Issued", "Issued", ""),
        Issue::Pending => Word::is_not("Issued", "Pending", "spec.secret: the Secret with the token is being made"),
        Issue::Conflicted(message) => Word::is_not("Issued", "Conflicted", message.clone()),
    }
}

/// What kstatus reads: whether to go on waiting, or whether somebody must act first. Absent: neither.
fn progress(programmed: &Programmed, word: &Word, refused: Option<&Word>) -> Option<Word> {
    match (refused, programmed) {
        (Some(refused), _) if refused.reason == "Pending" => {
            Some(Word::is("Reconciling", "Pending", refused.message.clone()))
        }
        (Some(refused), _) => Some(Word::is("Stalled", refused.reason, refused.message.clone())),
        (None, Programmed::Nacked { .. } | Programmed::UnusableIn { .. }) => {
            Some(Word::is("Stalled", word.reason, word.message.clone()))
        }
        (None, _) if ["Pending", "PartiallyProgrammed"].contains(&word.reason) => {
            Some(Word::is("Reconciling", word.reason, word.message.clone()))
        }
        (None, _) => None,
    }
}

/// What the compiler said, in the words of the API.
fn compiled(report: &Report, of: ConditionType) -> Option<Word> {
    let condition = report.condition(of)?;
    let compiler::Condition { r#type, status, reason, message } = condition;
    Some(Word::new(type_name(*r#type), *status, reason_name(*reason), message.clone()))
}

fn type_name(of: ConditionType) -> &'static str {
    match of {
        ConditionType::Accepted => "Accepted",
        ConditionType::ResolvedRefs => "ResolvedRefs",
        ConditionType::Ready => "Ready",
        ConditionType::Revoked => "Revoked",
        ConditionType::Conflicted => "Conflicted",
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Accepted => "Accepted",
        Reason::ResolvedRefs => "ResolvedRefs",
        Reason::Ready => "Ready",
        Reason::Invalid => "Invalid",
        Reason::Conflicted => "Conflicted",
        Reason::RefNotFound => "RefNotFound",
        Reason::RefNotPermitted => "RefNotPermitted",
        Reason::SecretNotFound => "SecretNotFound",
        Reason::SecretKeyMissing => "SecretKeyMissing",
        Reason::SecretEmpty => "SecretEmpty",
        Reason::HostDisabled => "HostDisabled",
        Reason::NoHealthyKey => "NoHealthyKey",
        Reason::Revoked => "Revoked",
        Reason::Paused => "Paused",
    }
}

fn shortened(word: Word) -> Word {
    if word.message.len() <= LONGEST {
        return word;
    }
    let end = (0..=LONGEST - 3).rev().find(|at| word.message.is_char_boundary(*at)).unwrap_or(0);
    Word { message: format!("{}…", &word.message[..end]), ..word }
}

#[cfg(test)]
mod tests;
