//! What the operator said of an object in its status, and what that means to a person.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::DynamicObject;
use serde_json::Value;

/// What is said of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The generation of its spec.
    pub(crate) generation: i64,
    /// The generation that this is about; absent: nothing was said yet.
    pub(crate) observed: Option<i64>,
    /// One fact each.
    pub(crate) conditions: Vec<Condition>,
}

/// How an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is in effect.
    Ready,
    /// Somebody took it out of service, or it has come to its end: nothing is wrong.
    Off(Why),
    /// It is not in effect, and should be.
    NotReady(Why),
}

/// Why an object is not in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    /// The condition that says so, with its status, such as `Accepted=False`.
    pub(crate) condition: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The order in which one asks what is wrong: the cause before what follows from it.
const CAUSES: [&str; 6] = ["Accepted", "ResolvedRefs", "Issued", "Programmed", "Healthy", "Ready"];

/// Reasons of somebody who took an object out of service, as `relay check` has them, and of its end.
const OFF: [&str; 4] = ["Paused", "Revoked", "HostDisabled", "Expired"];

impl Said {
    /// Reads the status of an object as far as it can be read.
    pub(crate) fn of(object: &DynamicObject) -> Self {
        let status = &object.data["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        Self {
            generation: object.metadata.generation.unwrap_or_default(),
            observed: status["observedGeneration"].as_i64(),
            conditions: conditions.filter_map(|condition| serde_json::from_value(condition.clone()).ok()).collect(),
        }
    }

    /// Whether this is about the spec as it is now.
    pub(crate) fn is_current(&self) -> bool {
        self.observed.is_some_and(|observed| observed >= self.generation)
    }

    pub(crate) fn condition(&self, of: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == of)
    }

    /// Whether a condition is said to hold of the spec as it is now.
    pub(crate) fn holds(&self, of: &str) -> bool {
        self.is_current() && self.condition(of).is_some_and(|condition| condition.status == "True")
    }

    /// The condition of that type, where it is said not to hold of the spec as it is now.
    pub(crate) fn fails(&self, of: &str) -> Option<&Condition> {
        self.condition(of).filter(|condition| self.is_current() && condition.status == "False")
    }

    /// How the object is.
    pub(crate) fn standing(&self) -> Standing {
        if self.observed.is_none() && self.conditions.is_empty() {
            let message = "no operator has said anything of it: does one run, and does it watch this namespace?";
            return Standing::NotReady(Why::pending(message.to_owned()));
        }
        if !self.is_current() {
            let observed = self.observed.unwrap_or_default();
            let message = format!("generation {} is not looked at yet, only {observed}", self.generation);
            return Standing::NotReady(Why::pending(message));
        }
        if self.holds("Ready") {
            return Standing::Ready;
        }
        let ready = self.condition("Ready");
        if let Some(ready) = ready.filter(|ready| OFF.contains(&ready.reason.as_str())) {
            return Standing::Off(Why::of(ready));
        }
        let cause = CAUSES.into_iter().find_map(|of| self.fails(of)).or(ready);
        Standing::NotReady(cause.map_or_else(|| Why::pending("nothing is said of Ready".to_owned()), Why::of))
    }
}

impl Why {
    fn of(condition: &Condition) -> Self {
        Self {
            condition: format!("{}={}", condition.type_, condition.status),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }
    }

    fn pending(message: String) -> Self {
        Self { condition: "Ready=Unknown".to_owned(), reason: "Pending".to_owned(), message }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::json!({"condition": self.condition, "reason": self.reason, "message": self.message})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(generation: i64, conditions: &[(&str, &str, &str)]) -> Said {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(of, status, reason)| {
                json!({"type": of, "status": status, "reason": reason, "message": "", "observedGeneration": 1,
                       "lastTransitionTime": "2026-01-01T00:00:00Z"})
            })
            .collect();
        let object = json!({
            "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey",
            "metadata": {"name": "app", "namespace": "n", "generation": generation},
            "status": {"observedGeneration": 1, "conditions": conditions},
        });
        Said::of(&serde_json::from_value(object).unwrap())
    }

    fn why(standing: Standing) -> String {
        match standing {
            Standing::Ready => "ready".to_owned(),
            Standing::Off(why) => format!("off {}", why.reason),
            Standing::NotReady(why) => format!("not ready {} {}", why.condition, why.reason),
        }
    }

    #[test]
    fn the_cause_is_shown_and_not_what_follows_from_it() {
        let conditions = [
            ("Ready", "False", "RefNotFound"),
            ("Programmed", "False", "RefNotFound"),
            ("ResolvedRefs", "False", "RefNotFound"),
            ("Accepted", "True", "Accepted"),
        ];
        assert_eq!(why(said(1, &conditions).standing()), "not ready ResolvedRefs=False RefNotFound");
    }

    #[test]
    fn what_was_taken_out_of_service_is_not_wrong() {
        assert_eq!(why(said(1, &[("Ready", "False", "Revoked")]).standing()), "off Revoked");
    }

    #[test]
    fn a_status_of_an_older_generation_says_nothing_of_this_one() {
        let said = said(2, &[("Ready", "True", "Ready")]);
        assert_eq!(why(said.standing()), "not ready Ready=Unknown Pending");
        assert!(!said.holds("Ready"));
    }
}
