//! An object: its fields in their order, each name once.

use std::borrow::Cow;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::Json;

/// Most objects have no more fields.
pub(super) const FIELDS: usize = 8;

/// Up to so many names are compared one by one.
const FEW: usize = 16;

/// The fields of an object in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object<'a> {
    fields: Vec<(Cow<'a, str>, Json<'a>)>,
}

impl<'a> Object<'a> {
    /// These fields, whose names differ.
    pub(crate) fn of<const N: usize>(fields: [(&'static str, Json<'a>); N]) -> Self {
        Self { fields: fields.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect() }
    }

    /// Fields as they were read: of several with one name the last counts, in the place of the first.
    pub(super) fn read(fields: Vec<(Cow<'a, str>, Json<'a>)>) -> Self {
        let is_named_twice = |(place, (name, _)): (usize, &(Cow<'_, str>, Json<'_>))| {
            fields[..place].iter().any(|(earlier, _)| earlier == name)
        };
        if fields.len() <= FEW && !fields.iter().enumerate().any(is_named_twice) {
            return Self { fields };
        }
        let once: IndexMap<_, _> = fields.into_iter().collect();
        Self { fields: once.into_iter().collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Json<'a>> {
        self.fields.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field of a new name.
    pub(crate) fn push(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Json<'a>>) {
        if self.fields.capacity() == 0 {
            self.fields = Vec::with_capacity(FIELDS);
        }
        self.fields.push((name.into(), value.into()));
    }

    /// Sets a field: where it stands, else at the end.
    pub(crate) fn insert(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Json<'a>>) {
        let (name, value) = (name.into(), value.into());
        match self.get_mut(&name) {
            Some(known) => *known = value,
            None => self.push(name, value),
        }
    }

    /// Sets a field where there is something to set.
    pub(crate) fn put(&mut self, name: impl Into<Cow<'a, str>>, value: Option<impl Into<Json<'a>>>) {
        if let Some(value) = value {
            self.insert(name, value);
        }
    }

    /// Takes a field out; the last field takes its place.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json<'a>> {
        let place = self.fields.iter().position(|(known, _)| known == name)?;
        Some(self.fields.swap_remove(place).1)
    }

    /// Takes a field out; those behind it keep their order.
    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.retain(|(known, _)| known != name);
    }

    /// The object in a field, made where there is none.
    pub(crate) fn object_at(&mut self, name: &'static str) -> &mut Object<'a> {
        if !self.get(name).is_some_and(Json::is_object) {
            self.insert(name, Object::default());
        }
        match self.get_mut(name) {
            Some(Json::Object(object)) => object,
            _ => unreachable!("an object was put there"),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value))
    }

    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The same without what it borrows.
    pub(super) fn into_owned(self) -> Object<'static> {
        let owned = |(name, value): (Cow<'_, str>, Json<'_>)| (Cow::Owned(name.into_owned()), value.into_owned());
        Object { fields: self.fields.into_iter().map(owned).collect() }
    }

    /// The same, as a map of serde_json.
    pub(crate) fn to_map(&self) -> Map<String, Value> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_value())).collect()
    }
}

impl<'a> IntoIterator for Object<'a> {
    type Item = (Cow<'a, str>, Json<'a>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.into_iter()
    }
}

impl<'a> From<&'a Map<String, Value>> for Object<'a> {
    fn from(map: &'a Map<String, Value>) -> Self {
        Self { fields: map.iter().map(|(name, value)| (Cow::Borrowed(name.as_str()), Json::from(value))).collect() }
    }
}
