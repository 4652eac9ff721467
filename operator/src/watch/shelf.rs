//! The objects of one watched collection, as they were last heard of.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use table::ObjectRef;

use crate::{
    debounce::Urgency,
    source_vector::Position,
    watch::{
        follow::Heard,
        kept::{Kept, fingerprint},
    },
};

/// The objects of one collection.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    objects: Objects<T>,
    /// What a list brought so far; takes the place of the rest when it ends.
    listing: Option<Objects<T>>,
    version: u64,
    lists: u64,
    failing: Option<String>,
}

type Objects<T> = BTreeMap<ObjectRef, Entry<T>>;

/// An object with the number of what it is.
#[derive(Debug)]
struct Entry<T> {
    read: Result<Arc<T>, String>,
    fingerprint: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), listing: None, version: 0, lists: 0, failing: None }
    }
}

impl<T: Kept> Shelf<T> {
    /// Takes in what was heard. Says how soon it has to be in effect; absent: it means nothing.
    pub(crate) fn hear(&mut self, heard: Heard<T::Raw>) -> Option<Urgency> {
        match heard {
            Heard::Listing => {
                self.listing = Some(BTreeMap::new());
                None
            }
            Heard::Item(raw) => {
                let (id, entry) = Entry::read(raw)?;
                self.listing.get_or_insert_default().insert(id, entry);
                None
            }
            Heard::Listed(version) => {
                self.version = version;
                let listed = self.listing.take().unwrap_or_default();
                self.lists += 1;
                let urgency = difference(&self.objects, &listed);
                self.objects = listed;
                if self.lists == 1 { Some(urgency.unwrap_or(Urgency::Usual)) } else { urgency }
            }
            Heard::Applied(version, raw) => {
                self.version = version;
                self.apply(raw)
            }
            Heard::Deleted(version, raw) => {
                self.version = version;
                self.objects.remove(&id(T::metadata(&raw))?).map(|_| T::END)
            }
            Heard::Bookmark(version) => {
                self.version = version;
                None
            }
            Heard::Failing(reason) => {
                self.failing = Some(reason);
                None
            }
            Heard::Hearing => {
                self.failing = None;
                None
            }
        }
    }

    fn apply(&mut self, raw: T::Raw) -> Option<Urgency> {
        let is_ending = T::metadata(&raw).deletion_timestamp.is_some();
        let (id, entry) = if is_ending {
            (id(T::metadata(&raw))?, None)
        } else {
            Entry::read(raw).map(|(id, entry)| (id, Some(entry)))?
        };
        let Some(entry) = entry else { return self.objects.remove(&id).map(|_| T::END) };
        let urgency = change(self.objects.get(&id), &entry);
        self.objects.insert(id, entry);
        urgency
    }

    /// How often everything that is there was heard of.
    pub(crate) fn lists(&self) -> u64 {
        self.lists
    }

    /// Why the server cannot be heard; absent: it can.
    pub(crate) fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// How new this is.
    pub(crate) fn position(&self) -> Position {
        let state = self.objects.values().fold(0, |all, entry| all ^ entry.fingerprint);
        Position { version: self.version, state }
    }

    /// Those that could be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<T>)> {
        self.objects.iter().filter_map(|(id, entry)| Some((id, entry.read.as_ref().ok()?)))
    }

    /// Those that could not be read, and why.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = (&ObjectRef, &str)> {
        self.objects.iter().filter_map(|(id, entry)| Some((id, entry.read.as_ref().err()?.as_str())))
    }

    /// The object of that name.
    pub(crate) fn get(&self, id: &ObjectRef) -> Option<&Arc<T>> {
        self.objects.get(id)?.read.as_ref().ok()
    }
}

impl<T: Kept> Entry<T> {
    /// Absent: the object has no name, or is being deleted.
    fn read(raw: T::Raw) -> Option<(ObjectRef, Self)> {
        let metadata = T::metadata(&raw);
        let id = id(metadata)?;
        if metadata.deletion_timestamp.is_some() {
            return None;
        }
        let fingerprint = fingerprint(metadata);
        Some((id, Self { read: T::read(raw).map(Arc::new), fingerprint }))
    }
}

fn id(metadata: &ObjectMeta) -> Option<ObjectRef> {
    Some(ObjectRef::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone()?))
}

/// How soon one object's change has to be in effect; absent: it means the same.
fn change<T: Kept>(before: Option<&Entry<T>>, after: &Entry<T>) -> Option<Urgency> {
    let Some(before) = before else { return Some(Urgency::Usual) };
    match (&before.read, &after.read) {
        (Ok(before), Ok(after)) if after.means(before) => None,
        (Ok(before), Ok(after)) => Some(after.urgency(before)),
        (Err(before), Err(after)) if before == after => None,
        (Err(_), _) => Some(Urgency::Usual),
        (Ok(_), Err(_)) => Some(T::END),
    }
}

/// How soon the change from one list to another has to be in effect; absent: they mean the same.
fn difference<T: Kept>(before: &Objects<T>, after: &Objects<T>) -> Option<Urgency> {
    let changed = after.iter().filter_map(|(id, entry)| change(before.get(id), entry)).max();
    let is_less = before.keys().any(|id| !after.contains_key(id));
    changed.max(is_less.then_some(T::END))
}

#[cfg(test)]
mod tests {
    use crds::RelayKey;
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    fn key(name: &str, version: u64, spec: Value) -> DynamicObject {
        let metadata = json!({
            "name": name, "namespace": "n", "uid": name, "generation": 1, "resourceVersion": version.to_string(),
        });
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn good() -> Value {
        json!({"policyRefs": [{"name": "p"}], "tokenHash": format!("sha256:{}", "0".repeat(64))})
    }

    fn shelf(names: &[&str]) -> Shelf<RelayKey> {
        let mut shelf = Shelf::default();
        shelf.hear(Heard::Listing);
        for name in names {
            assert_eq!(shelf.hear(Heard::Item(key(name, 1, good()))), None);
        }
        assert_eq!(shelf.lists(), 0);
        assert_eq!(shelf.hear(Heard::Listed(10)), Some(Urgency::Usual));
        shelf
    }

    fn names(shelf: &Shelf<RelayKey>) -> Vec<&str> {
        shelf.readable().map(|(id, _)| id.name.as_str()).collect()
    }

    #[test]
    fn an_empty_list_is_news_once() {
        let mut shelf = shelf(&[]);
        assert_eq!(shelf.lists(), 1);
        shelf.hear(Heard::Listing);
        assert_eq!(shelf.hear(Heard::Listed(20)), None);
        assert_eq!(shelf.position(), Position { version: 20, state: 0 });
    }

    #[test]
    fn a_list_takes_the_place_of_all_and_what_it_lacks_is_urgent() {
        let mut shelf = shelf(&["a", "b"]);
        shelf.hear(Heard::Listing);
        shelf.hear(Heard::Item(key("b", 1, good())));
        assert_eq!(names(&shelf), ["a", "b"], "a list is in effect only when it is complete");
        assert_eq!(shelf.hear(Heard::Listed(20)), Some(Urgency::Urgent));
        assert_eq!(names(&shelf), ["b"]);
    }

    #[test]
    fn a_list_that_broke_off_leaves_nothing_behind() {
        let mut shelf = shelf(&["a"]);
        shelf.hear(Heard::Listing);
        shelf.hear(Heard::Item(key("ghost", 1, good())));
        shelf.hear(Heard::Failing("connection refused".to_owned()));
        assert_eq!(shelf.failing(), Some("connection refused"));
        shelf.hear(Heard::Listing);
        shelf.hear(Heard::Item(key("a", 1, good())));
        assert_eq!(shelf.hear(Heard::Listed(20)), None);
        shelf.hear(Heard::Hearing);
        assert_eq!((names(&shelf), shelf.failing()), (vec!["a"], None));
    }

    #[test]
    fn an_object_that_cannot_be_read_is_kept_as_that() {
        let mut shelf = shelf(&["a"]);
        assert_eq!(shelf.hear(Heard::Applied(11, key("b", 11, json!({"policyRefs": 5})))), Some(Urgency::Usual));
        assert_eq!(names(&shelf), ["a"]);
        let (id, reason) = shelf.unreadable().next().unwrap();
        assert_eq!(id.name, "b");
        assert!(reason.contains("spec.policyRefs"), "{reason}");
        assert_eq!(shelf.hear(Heard::Applied(12, key("b", 12, good()))), Some(Urgency::Usual));
        assert_eq!(names(&shelf), ["a", "b"]);
    }

    #[test]
    fn an_object_that_is_being_deleted_is_gone() {
        let mut shelf = shelf(&["a"]);
        let mut ending = key("a", 11, good());
        ending.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(shelf.hear(Heard::Applied(11, ending.clone())), Some(Urgency::Urgent));
        assert_eq!(shelf.hear(Heard::Deleted(12, ending)), None);
        assert_eq!(names(&shelf), [] as [&str; 0]);
        assert_eq!(shelf.position(), Position { version: 12, state: 0 });
    }

    #[test]
    fn two_replicas_that_heard_the_same_in_other_ways_are_in_the_same_state() {
        let mut one = shelf(&["a", "b", "c"]);
        one.hear(Heard::Deleted(15, key("b", 15, good())));
        one.hear(Heard::Applied(17, key("c", 17, good())));
        let mut two = shelf(&["c", "a"]);
        two.hear(Heard::Bookmark(16));
        assert_eq!(one.position().state, two.position().state);
        assert_eq!((one.position().version, two.position().version), (17, 16));
        one.hear(Heard::Deleted(18, key("c", 18, good())));
        assert_ne!(one.position().state, two.position().state);
    }
}
