//! What an object's status says already: read leniently, because others may have written there, and compared without
//! regard to when things were said.

use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;

/// A status as it stands.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The generation that it is about.
    pub observed_generation: Option<i64>,
    /// Its conditions; those that cannot be read are left out, and so written anew.
    pub conditions: Vec<Condition>,
}

impl Said {
    /// Reads `status` of an object.
    pub fn of(status: &Value) -> Self {
        let conditions = status.get("conditions").and_then(Value::as_array);
        let readable = |value: &Value| serde_json::from_value(value.clone()).ok();
        Self {
            observed_generation: status.get("observedGeneration").and_then(Value::as_i64),
            conditions: conditions.into_iter().flatten().filter_map(readable).collect(),
        }
    }

    /// The condition of a type.
    pub fn condition(&self, of: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == of)
    }

    /// The newest generation that anything in it is about.
    pub fn newest_generation(&self) -> Option<i64> {
        let of_conditions = self.conditions.iter().filter_map(|condition| condition.observed_generation);
        of_conditions.chain(self.observed_generation).max()
    }

    /// Whether the object was known to be in effect everywhere, at this generation.
    pub fn was_programmed(&self, generation: i64) -> bool {
        self.condition("Programmed")
            .is_some_and(|said| said.status == "True" && said.observed_generation == Some(generation))
    }
}

/// Whether two statuses say the same, whenever they said it first.
pub fn says_the_same(one: &Value, other: &Value) -> bool {
    undated(one) == undated(other)
}

/// Equal for statuses that say the same.
pub fn print(status: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    undated(status).to_string().hash(&mut hasher);
    hasher.finish()
}

fn undated(status: &Value) -> Value {
    let mut status = crds::without_nulls(status);
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    if let Some(conditions) = conditions {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            condition.remove("lastTransitionTime");
        }
        conditions.sort_by_cached_key(|condition| condition.get("type").map(Value::to_string));
    }
    if status.is_null() { Value::Object(serde_json::Map::new()) } else { status }
}

/// An instant as the API server writes it: whole seconds.
pub fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_and_order_do_not_matter_and_all_else_does() {
        let one = json!({"observedGeneration": 1, "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ]});
        let mut other = json!({"observedGeneration": 1, "models": null, "conditions": [
            {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z"},
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T00:00:00Z"},
        ]});
        assert!(says_the_same(&one, &other));
        other["conditions"][1]["status"] = json!("False");
        assert!(!says_the_same(&one, &other));
        assert!(says_the_same(&Value::Null, &json!({})));
    }

    #[test]
    fn what_others_wrote_wrongly_is_passed_over() {
        let said = Said::of(&json!({"observedGeneration": "two", "conditions": [
            {"type": "Ready"},
            {"type": "Programmed", "status": "True", "reason": "Programmed", "message": "", "observedGeneration": 3,
             "lastTransitionTime": "2026-01-01T00:00:00Z"},
            7,
        ]}));
        assert_eq!(said.conditions.len(), 1);
        assert_eq!(said.newest_generation(), Some(3));
        assert!(said.was_programmed(3) && !said.was_programmed(4));
        assert!(Said::of(&json!("nonsense")).conditions.is_empty());
    }
}
