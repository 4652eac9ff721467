//! What is to be done about the Secret of one RelayKey: a pure function of the RelayKey, the Secret as it is, and `now`.

use std::time::Duration;

use crds::{RelayKey, TokenState, TokenStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};
use table::token::{self, Form};

use super::secret::{self, Entries};
use crate::status::said::whole_seconds;

/// How long a token that was replaced stays good, unless the RelayKey says otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This RelayKey needs no Secret of ours, or none any more.
    None,
    /// There is no Secret: create it.
    Create,
    /// There is one that lacks its token, or that was made for a former RelayKey of this name: write a new token, and
    /// keep nothing of what was there.
    Reissue,
    /// Its token's time has come: write a new one, and keep the old one until then.
    Rotate {
        /// Until when the old token stays good.
        until: Timestamp,
    },
    /// The time of the old token is over: take it out.
    Retire(Live),
    /// All is well.
    Keep(Live),
    /// The Secret is somebody else's. Nothing is written, and this is why.
    Conflict(String),
}

/// The tokens that a Secret holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The newest first.
    pub tokens: Vec<TokenStatus>,
    /// When there is something to do next, if nothing changes until then.
    pub next: Option<Timestamp>,
}

/// What there is of a Secret.
pub type Found<'a> = Option<&'a Secret>;

/// What is to be done about the Secret of `key` at `now`.
pub fn decide(key: &RelayKey, found: Found<'_>, now: Timestamp) -> Decision {
    let Some(spec) = &key.spec.secret else { return Decision::None };
    if key.meta().deletion_timestamp.is_some() {
        return Decision::None;
    }
    let has_ended = has_ended(key, now);
    let Some(existing) = found else {
        return if has_ended { Decision::None } else { Decision::Create };
    };
    if !secret::is_ours(existing.meta(), key) {
        return match secret::is_of_a_former(existing.meta(), key) {
            true if has_ended => Decision::None,
            true => Decision::Reissue,
            false => Decision::Conflict(conflict(key, &spec.name)),
        };
    }
    let entries = Entries::of(spec);
    let Some(token) = secret::text(existing, &entries.token) else {
        return if has_ended { Decision::None } else { Decision::Reissue };
    };
    let issued_at = issued_at(existing);
    if !has_ended && is_due(key, existing, issued_at, now) {
        return Decision::Rotate { until: after(now, overlap(key)) };
    }
    let (current, current_ends) = (active(token, issued_at), rotates_at(key, issued_at).filter(|_| !has_ended));
    let previous = secret::text(existing, &entries.previous);
    let until = secret::text(existing, &entries.previous_until).and_then(|until| until.parse::<Timestamp>().ok());
    match (previous, until) {
        (None, None) => Decision::Keep(Live { tokens: current, next: current_ends }),
        (Some(previous), Some(until)) if now < until => {
            let tokens = current.into_iter().chain(retiring(previous, until)).collect();
            Decision::Keep(Live { tokens, next: Some(current_ends.map_or(until, |ends| ends.min(until))) })
        }
        // What does not say until when it is good is not.
        (Some(_), _) | (None, Some(_)) => Decision::Retire(Live { tokens: current, next: current_ends }),
    }
}

/// A key that is refused for good needs no token.
fn has_ended(key: &RelayKey, now: Timestamp) -> bool {
    let expires_at = key.spec.expires_at.as_ref().and_then(|at| at.timestamp());
    key.spec.revoked.unwrap_or(false) || expires_at.is_some_and(|at| at <= now)
}

fn is_due(key: &RelayKey, existing: &Secret, issued_at: Option<Timestamp>, now: Timestamp) -> bool {
    let wanted = key.spec.rotation.as_ref().and_then(|rotation| rotation.trigger).unwrap_or(0);
    // Where the annotation was lost it is not known what the token answers to: rather an old token than a new one each time.
    let answered = secret::annotation(existing, secret::TRIGGER).and_then(|trigger| trigger.parse::<i64>().ok());
    answered.is_some_and(|answered| answered < wanted) || rotates_at(key, issued_at).is_some_and(|at| at <= now)
}

fn rotates_at(key: &RelayKey, issued_at: Option<Timestamp>) -> Option<Timestamp> {
    let every = key.spec.rotation.as_ref()?.every.as_ref()?.to_std()?;
    Some(after(issued_at?, every))
}

/// At most two tokens are good at a time, so the old one ends with the next rotation at the latest.
fn overlap(key: &RelayKey) -> Duration {
    let rotation = key.spec.rotation.as_ref();
    let of = |written: Option<&crds::Duration>| written.and_then(crds::Duration::to_std);
    let overlap = of(rotation.and_then(|rotation| rotation.overlap.as_ref())).unwrap_or(OVERLAP);
    of(rotation.and_then(|rotation| rotation.every.as_ref())).map_or(overlap, |every| overlap.min(every))
}

fn issued_at(existing: &Secret) -> Option<Timestamp> {
    let written = secret::annotation(existing, secret::ISSUED_AT).and_then(|at| at.parse().ok());
    written.or_else(|| existing.creation_timestamp().map(|time| time.0))
}

fn active(token: &str, issued_at: Option<Timestamp>) -> Vec<TokenStatus> {
    let created_at = issued_at.map(instant);
    id(token)
        .map(|id| TokenStatus { id, state: TokenState::Active, created_at, expires_at: None })
        .into_iter()
        .collect()
}

fn retiring(token: &str, until: Timestamp) -> Option<TokenStatus> {
    let expires_at = Some(instant(until));
    id(token).map(|id| TokenStatus { id, state: TokenState::Retiring, created_at: None, expires_at })
}

/// Somebody may have put a token of their own there: it has no part that may be shown.
fn id(token: &str) -> Option<String> {
    match token::form(token) {
        Form::Minted(id) => Some(id.to_owned()),
        Form::Brought | Form::Mistyped => None,
    }
}

fn instant(at: Timestamp) -> String {
    whole_seconds(at).to_string()
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

fn conflict(key: &RelayKey, name: &str) -> String {
    format!(
        "spec.secret.name `{name}`: namespace `{}` has a Secret of that name which was not made for this RelayKey; delete \
         it, or make another RelayKey with another `spec.secret.name`, or refer to that Secret with `spec.tokenSecretRef`",
        key.namespace().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests;
