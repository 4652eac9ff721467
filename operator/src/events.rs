//! Events: what happened to an object, for people who look at it with `kubectl describe`. Each is worth a word once; an
//! object that keeps failing must not fill the cluster with them.

mod budget;
mod post;

use crds::{BreakerState, KeyBreaker, Kind};
use serde_json::Value;
use table::ObjectRef;

pub use budget::Budget;
pub use post::{EventMetrics, Poster};

use crate::{mint::Happened, status::said::Said};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// To an object of this kind.
    pub kind: Kind,
    /// Which.
    pub id: ObjectRef,
    /// Its UID.
    pub uid: String,
    /// What, in one word.
    pub reason: &'static str,
    /// What was being done, in one word.
    pub action: &'static str,
    /// Whether somebody should have a look.
    pub is_warning: bool,
    /// What, for people. Never a secret.
    pub note: String,
}

/// What a change of a status is worth to tell: the object was refused, lacks something, or recovered from that.
pub fn of_status(kind: Kind, id: &ObjectRef, uid: &str, before: &Value, after: &Value) -> Vec<Event> {
    let (before, after) = (Said::of(before), Said::of(after));
    let told = ["Accepted", "ResolvedRefs", "Programmed"].into_iter().filter_map(|of| {
        let now = after.condition(of).filter(|condition| condition.status == "False")?;
        let reason = worth_telling(of, &now.reason)?;
        let was = before.condition(of).filter(|was| was.status == "False" && was.reason == now.reason);
        was.is_none().then(|| Event {
            kind,
            id: id.clone(),
            uid: uid.to_owned(),
            reason,
            action: "Compile",
            is_warning: true,
            note: now.message.clone(),
        })
    });
    told.collect()
}

/// What a change of the status of a HostKey says of its breaker: data planes began or ceased to use the key.
pub fn of_health(id: &ObjectRef, uid: &str, before: &Value, after: &Value) -> Option<Event> {
    let out = |status: &Value| {
        let breaker: KeyBreaker = serde_json::from_value(status.get("breaker")?.clone()).ok()?;
        (breaker.state != BreakerState::Closed).then_some(breaker)
    };
    let (before, after) = (out(before), out(after));
    let class = |breaker: &Option<KeyBreaker>| breaker.as_ref().map(|breaker| breaker.class.clone());
    (class(&before) != class(&after)).then(|| of_breaker(id, uid, after.as_ref()))
}

/// Only what a person has to act on. That acknowledgements are on their way is not.
fn worth_telling(of: &str, reason: &str) -> Option<&'static str> {
    match (of, reason) {
        ("Accepted", "Conflicted") => Some("Conflicted"),
        ("Accepted", _) => Some("Refused"),
        ("ResolvedRefs", "SecretNotFound") => Some("SecretNotFound"),
        ("ResolvedRefs", "SecretKeyMissing") => Some("SecretKeyMissing"),
        ("ResolvedRefs", "SecretEmpty") => Some("SecretEmpty"),
        ("Programmed", "Nacked") => Some("Nacked"),
        _ => None,
    }
}

/// What became of the token of a RelayKey.
pub fn of_token(id: &ObjectRef, uid: &str, secret: &str, happened: &Happened) -> Event {
    let (reason, is_warning, note) = match happened {
        Happened::Issued => ("TokenIssued", false, format!("made a token; it is in Secret `{secret}`")),
        Happened::Reissued => (
            "TokenReissued",
            true,
            format!("Secret `{secret}` had lost its token: made another one, and the old one is refused"),
        ),
        Happened::Rotated(until) => (
            "TokenRotated",
            false,
            format!("replaced the token in Secret `{secret}`; the old one is good until {until}"),
        ),
        Happened::Retired => {
            ("TokenRetired", false, format!("took the replaced token out of Secret `{secret}`: it is refused"))
        }
        Happened::Conflicted(why) => ("Conflicted", true, why.clone()),
    };
    Event { kind: Kind::RelayKey, id: id.clone(), uid: uid.to_owned(), reason, action: "Mint", is_warning, note }
}

/// The breaker of a HostKey is open at some data planes, or at none.
fn of_breaker(id: &ObjectRef, uid: &str, breaker: Option<&KeyBreaker>) -> Event {
    let (reason, note) = match breaker {
        Some(KeyBreaker { class, open_pods, pods, .. }) => {
            let (class, out, of) = (class.as_deref().unwrap_or_default(), open_pods.unwrap_or(0), pods.unwrap_or(0));
            ("BreakerOpened", format!("{out} of {of} data planes do not use this key for now: {class}"))
        }
        None => ("BreakerClosed", "all data planes use this key again".to_owned()),
    };
    Event {
        kind: Kind::HostKey,
        id: id.clone(),
        uid: uid.to_owned(),
        reason,
        action: "Serve",
        is_warning: breaker.is_some(),
        note,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(of: &str, status: &str, reason: &str) -> Value {
        json!({"conditions": [{
            "type": of, "status": status, "reason": reason, "message": "why",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]})
    }

    fn told(before: &Value, after: &Value) -> Vec<&'static str> {
        let events = of_status(Kind::HostKey, &ObjectRef::new("n", "k"), "uid", before, after);
        events.into_iter().map(|event| event.reason).collect()
    }

    #[test]
    fn a_fault_is_told_when_it_comes_and_not_again() {
        let good = status("ResolvedRefs", "True", "ResolvedRefs");
        let missing = status("ResolvedRefs", "False", "SecretNotFound");
        let empty = status("ResolvedRefs", "False", "SecretEmpty");
        assert_eq!(told(&Value::Null, &missing), ["SecretNotFound"]);
        assert_eq!(told(&good, &missing), ["SecretNotFound"]);
        assert_eq!(told(&missing, &missing), [""; 0]);
        assert_eq!(told(&missing, &empty), ["SecretEmpty"]);
        assert_eq!(told(&missing, &good), [""; 0]);
    }

    #[test]
    fn a_breaker_is_told_when_it_opens_closes_or_opens_for_another_reason() {
        let breaker = |state: &str, class: &str, pods: u32| json!({"breaker": {"state": state, "class": class, "openPods": pods, "pods": 3}});
        let told = |before: &Value, after: &Value| {
            let event = of_health(&ObjectRef::new("n", "k"), "uid", before, after);
            event.map(|event| (event.reason, event.is_warning, event.note))
        };
        let closed = json!({"breaker": {"state": "Closed"}});
        let (some, all) = (breaker("Partial", "auth", 1), breaker("Open", "auth", 3));
        let note = "1 of 3 data planes do not use this key for now: auth".to_owned();
        for before in [&Value::Null, &closed] {
            assert_eq!(told(before, &some), Some(("BreakerOpened", true, note.clone())));
            assert_eq!(told(before, &closed), None);
        }
        assert_eq!(told(&some, &all), None, "more of the same");
        assert_eq!(told(&all, &breaker("Open", "unreachable", 3)).map(|told| told.0), Some("BreakerOpened"));
        let note = "all data planes use this key again".to_owned();
        assert_eq!(told(&all, &closed), Some(("BreakerClosed", false, note)));
    }

    #[test]
    fn what_passes_by_itself_is_not_told() {
        assert_eq!(told(&Value::Null, &status("Programmed", "False", "Pending")), [""; 0]);
        assert_eq!(told(&Value::Null, &status("Programmed", "False", "Nacked")), ["Nacked"]);
        assert_eq!(told(&Value::Null, &status("Accepted", "False", "Conflicted")), ["Conflicted"]);
        assert_eq!(told(&Value::Null, &status("Accepted", "False", "Invalid")), ["Refused"]);
    }
}
