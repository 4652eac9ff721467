//! Model ids and aliases by namespace.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use table::ObjectRef;

use super::{Found, Model};

/// What a name means within its namespace.
#[derive(Clone, Debug)]
pub enum Named {
    /// A Model.
    Usable(Arc<Model>),
    /// A Model that cannot be used; known by the name of its object, because its id may be what is wrong.
    Invalid {
        /// The object.
        id: ObjectRef,
        /// What is wrong with it.
        reason: String,
    },
}

/// Names by namespace.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, BTreeMap<String, Named>>);

impl Names {
    /// Ids come before aliases, and both before names of invalid objects; of two equal ones the first object has it.
    /// The compiler refuses such conflicts, so this only makes the outcome certain.
    pub(super) fn of(models: &HashMap<ObjectRef, Found<Model>>) -> Self {
        let mut sorted: Vec<_> = models.iter().collect();
        sorted.sort_by_key(|(id, _)| *id);
        let mut names = Names::default();
        for (id, found) in &sorted {
            let Found::Usable(model) = found else { continue };
            names.add(id, &model.row.model_name, Named::Usable(model.clone()));
        }
        for (id, found) in &sorted {
            let Found::Usable(model) = found else { continue };
            for alias in &model.row.aliases {
                names.add(id, alias, Named::Usable(model.clone()));
            }
        }
        for (id, found) in &sorted {
            let Found::Invalid(reason) = found else { continue };
            names.add(id, &id.name, Named::Invalid { id: (*id).clone(), reason: reason.clone() });
        }
        names
    }

    fn add(&mut self, id: &ObjectRef, name: &str, named: Named) {
        self.0.entry(id.namespace.clone()).or_default().entry(name.to_owned()).or_insert(named);
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<&Named> {
        self.0.get(namespace)?.get(name)
    }

    pub(super) fn all(&self, namespace: &str) -> impl Iterator<Item = (&str, &Named)> {
        self.0.get(namespace).into_iter().flatten().map(|(name, named)| (name.as_str(), named))
    }
}
