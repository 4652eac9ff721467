//! Which conditions an object has: what the compiler found, what the fleet acknowledged, what became of its token, and
//! what follows from all of them. Knows no clock but the `now` that it is given.

use compiler::{ConditionType, Reason, Report};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    fleet::{Held, Nack, PodId},
    said::{Said, whole_seconds},
};

/// No object may have more: the CRDs say so.
pub const MOST: usize = 8;

/// Longest message that is written; the CRDs allow more, but nobody reads more.
const LONGEST: usize = 4_096;

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
        Self { of, status: true, reason, message: message.into() }
    }

    fn is_not(of: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { of, status: false, reason, message: message.into() }
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
}

/// What is missing where it is not known whether an object is in effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// Any pod.
    Pods,
    /// Word of this pod.
    WordOf(String),
}

impl Programmed {
    /// Judges one object that the table has as usable.
    pub fn judge(held: Held<'_>, nack: Option<(&PodId, &Nack)>, is_deserted: bool) -> Self {
        if let Some((pod, nack)) = nack {
            let Nack { code, message, .. } = nack.clone();
            return Self::Nacked { pod: pod.to_string(), code, message };
        }
        let of = held.by + held.behind + held.unknown;
        let for_pod = held.waiting_for.map(ToString::to_string).unwrap_or_default();
        match held {
            _ if of == 0 && is_deserted => Self::Deserted,
            _ if of == 0 => Self::Unsaid(Missing::Pods),
            Held { behind: 1.., by, .. } => Self::Waiting { by, of, for_pod },
            Held { unknown: 1.., .. } => Self::Unsaid(Missing::WordOf(for_pod)),
            Held { .. } => Self::Everywhere,
        }
    }

    /// Whether acknowledgements may be on their way, so that it is worth while to wait a moment before saying anything.
    pub fn is_underway(&self) -> bool {
        matches!(self, Self::Waiting { .. } | Self::Unsaid(Missing::WordOf(_)))
    }

    fn word(&self, said: &Said, generation: i64, refused: Option<&Word>) -> Word {
        const OF: &str = "Programmed";
        match self {
            Self::Unsaid(_) if said.was_programmed(generation) => Word::is(OF, "Programmed", ""),
            Self::Everywhere => Word::is(OF, "Programmed", ""),
            Self::Unsaid(Missing::Pods) | Self::Deserted => {
                Word::is_not(OF, "NoDataPlane", "no data plane is connected: nothing serves by this object")
            }
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
}

/// What to say of an object at `now`, in the order in which it is written. `said` is what is said of it already.
pub fn words(judgement: Judgement<'_>, said: &Said, generation: i64, now: Timestamp) -> Vec<Word> {
    let Judgement { report, programmed, issue, expires_at } = judgement;
    let accepted = accepted(report, issue);
    let resolved = resolved(report, issue);
    let refused = [&accepted, &resolved].into_iter().find(|word| !word.status);
    let programmed_word = programmed.word(said, generation, refused);
    let expired =
        expires_at.filter(|end| *end <= now).map(|end| Word::is("Expired", "Expired", format!("it ended at {end}")));
    let issued = issue.map(issued);
    let revoked = compiled(report, ConditionType::Revoked);
    let conflicted = match issue {
        Some(Issue::Conflicted(message)) => Some(Word::is("Conflicted", "Conflicted", message.clone())),
        _ => compiled(report, ConditionType::Conflicted),
    };
    let own = compiled(report, ConditionType::Ready).filter(|word| !word.status);
    let obstacles = [Some(&accepted), Some(&resolved), own.as_ref(), issued.as_ref(), Some(&programmed_word)];
    let obstacle = obstacles.into_iter().flatten().find(|word| !word.status);
    let ready = match (&expired, obstacle) {
        (Some(expired), None) => Word::is_not("Ready", expired.reason, expired.message.clone()),
        (_, Some(obstacle)) => Word::is_not("Ready", obstacle.reason, obstacle.message.clone()),
        (None, None) => Word::is("Ready", "Ready", ""),
    };
    let progress = progress(programmed, &programmed_word, refused);
    // A key that is revoked for good does not need to be told that it has expired too.
    let ended = revoked.or(expired);
    let said =
        [Some(accepted), Some(resolved), Some(programmed_word), Some(ready), issued, ended, conflicted, progress];
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

/// A Secret that this operator is about to make, or has made and not compiled yet, is not missing.
fn resolved(report: &Report, issue: Option<&Issue>) -> Word {
    let word =
        compiled(report, ConditionType::ResolvedRefs).unwrap_or_else(|| Word::is("ResolvedRefs", "ResolvedRefs", ""));
    let lacks_secret = !word.status && ["SecretNotFound", "SecretKeyMissing"].contains(&word.reason);
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
        (None, Programmed::Nacked { .. }) => Some(Word::is("Stalled", word.reason, word.message.clone())),
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
    Some(Word { of: type_name(*r#type), status: *status, reason: reason_name(*reason), message: message.clone() })
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
