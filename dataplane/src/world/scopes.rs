//! Which counters the requests of a relay key touch: found out once for each table and model, because only how much is
//! claimed of them differs.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::RwLock;
use table::ObjectRef;

use super::{Policy, RelayKey};
use crate::limit::{
    claims::ScopeClaim,
    terms::{PolicyTerms, Terms, caller_scopes},
};

/// Models that are remembered of one key at most; beyond, all are forgotten. Callers may make names of models up.
const MOST_MODELS: usize = 32;
/// The longest name of a model that is remembered, in bytes: no real one is longer.
const LONGEST_MODEL: usize = 256;

type ByModel = HashMap<Box<str>, Arc<[ScopeClaim]>>;

/// The caller's scopes of one relay key, with nothing claimed.
#[derive(Debug)]
pub(super) struct CallerScopes {
    whatever_the_model: Arc<[ScopeClaim]>,
    /// Absent: no policy limits single models.
    by_model: Option<RwLock<ByModel>>,
}

impl CallerScopes {
    pub(super) fn of(id: &ObjectRef, row: &table::RelayKey, policies: &[Arc<Policy>]) -> Self {
        let limits_models = policies.iter().any(|policy| !policy.row.per_model.is_empty());
        Self { whatever_the_model: made(id, row, policies, None), by_model: limits_models.then(RwLock::default) }
    }

    /// Those of a request for a model, or for none.
    pub(super) fn for_model(&self, key: &RelayKey, model: Option<&str>) -> Arc<[ScopeClaim]> {
        let (Some(by_model), Some(model)) = (&self.by_model, model) else { return self.whatever_the_model.clone() };
        if let Some(known) = by_model.read().get(model) {
            return known.clone();
        }
        let scopes = made(&key.id, &key.row, &key.policies, Some(model));
        if model.len() > LONGEST_MODEL {
            return scopes;
        }
        let mut known = by_model.write();
        if known.len() >= MOST_MODELS {
            known.clear();
        }
        known.insert(model.into(), scopes.clone());
        scopes
    }
}

fn made(id: &ObjectRef, row: &table::RelayKey, policies: &[Arc<Policy>], model: Option<&str>) -> Arc<[ScopeClaim]> {
    let policies: Vec<_> =
        policies.iter().map(|of| PolicyTerms { name: &of.id, policy: &of.row, per_model: &of.per_model }).collect();
    caller_scopes(&Terms { key: id, relay_key: row, policies: &policies, model }).into()
}

#[cfg(test)]
mod tests {
    use table::{Limits, ModelLimits};

    use super::*;
    use crate::world::build::{Tables, caller};

    fn limited() -> Arc<RelayKey> {
        let limits = |rpm| Limits { rpm: Some(rpm), ..Limits::default() };
        let world = Tables::new()
            .policy("p", &["*"], |policy| {
                policy.limits = limits(9);
                policy.per_model = vec![ModelLimits { matches: "gpt-*".into(), limits: limits(5) }];
            })
            .relay_key("app", &["p"], |_| ())
            .world();
        caller(&world, "app").key
    }

    fn kinds(key: &RelayKey, model: Option<&str>) -> Vec<&'static str> {
        key.scopes(model).iter().map(|claim| claim.scope.kind()).collect()
    }

    #[test]
    fn each_model_has_its_own_and_keeps_them() {
        let key = limited();
        for _ in 0..2 {
            assert_eq!(kinds(&key, None), ["policy"]);
            assert_eq!(kinds(&key, Some("claude")), ["policy"]);
            assert_eq!(kinds(&key, Some("gpt-5")), ["policy", "model"]);
            assert_eq!(kinds(&key, Some("gpt-6")), ["policy", "model"]);
        }
        assert!(Arc::ptr_eq(&key.scopes(Some("gpt-5")), &key.scopes(Some("gpt-5"))));
        assert_ne!(key.scopes(Some("gpt-5"))[1].scope, key.scopes(Some("gpt-6"))[1].scope);
    }

    #[test]
    fn names_without_end_are_not_all_remembered() {
        let key = limited();
        for number in 0..3 * MOST_MODELS {
            assert_eq!(kinds(&key, Some(&format!("gpt-{number}"))), ["policy", "model"]);
        }
        let known = key.scopes.by_model.as_ref().map(|known| known.read().len());
        assert!(known.is_some_and(|known| known <= MOST_MODELS), "{known:?}");
    }

    #[test]
    fn a_name_without_end_counts_and_is_not_remembered() {
        let key = limited();
        assert_eq!(kinds(&key, Some(&format!("gpt-{}", "5".repeat(LONGEST_MODEL)))), ["policy", "model"]);
        assert!(key.scopes.by_model.as_ref().is_some_and(|known| known.read().is_empty()));
    }
}
