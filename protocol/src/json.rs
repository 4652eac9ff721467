//! JSON that borrows: what a codec reads from a body and puts together for one. Texts point into the bytes that they came
//! from or the values that they are of, and a map is a list, so that small objects cost neither hashes nor copies.
//!
//! What outlives its body (a schema, a block that no other shape knows) becomes a [`serde_json::Value`].

mod literal;
mod object;
mod plain;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::{borrow::Cow, ops::Index};

use serde_json::{Number, Value};

pub(crate) use literal::{fields, items, json};
pub(crate) use object::Object;
pub(crate) use write::{write_count, write_str};

/// A JSON value.
#[derive(Clone, Debug, Default)]
pub(crate) enum Json<'a> {
    #[default]
    Null,
    Bool(bool),
    /// A whole number from zero.
    Count(u64),
    /// Any other number, in the spelling in which it came.
    Number(Cow<'a, str>),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

static NULL: Json<'static> = Json::Null;

impl<'a> Json<'a> {
    /// The field of an object; none where it is absent or this is no object.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        self.as_object()?.get(key)
    }

    pub(crate) fn as_object(&self) -> Option<&Object<'a>> {
        if let Json::Object(object) = self { Some(object) } else { None }
    }

    /// Sets a field of an object, where this is one.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'a, str>>, value: impl Into<Json<'a>>) {
        if let Json::Object(object) = self {
            object.insert(name, value);
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Json<'a>]> {
        if let Json::Array(items) = self { Some(items) } else { None }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Json::String(text) = self { Some(text) } else { None }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        if let Json::Bool(flag) = self { Some(*flag) } else { None }
    }

    /// A whole number from zero.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Json::Count(count) => Some(*count),
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A number, where it can be held.
    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Json::Count(count) => Some(*count as f64),
            Json::Number(text) => text.parse().ok().filter(|number: &f64| number.is_finite()),
            _ => None,
        }
    }

    /// A number with its spelling.
    pub(crate) fn as_number(&self) -> Option<Number> {
        match self {
            Json::Count(count) => Some(Number::from(*count)),
            Json::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Json::Number(_) | Json::Count(_))
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self, Json::String(_))
    }

    pub(crate) fn is_array(&self) -> bool {
        matches!(self, Json::Array(_))
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// The same without what it borrows.
    pub(crate) fn into_owned(self) -> Json<'static> {
        match self {
            Json::Null => Json::Null,
            Json::Bool(flag) => Json::Bool(flag),
            Json::Count(count) => Json::Count(count),
            Json::Number(text) => Json::Number(Cow::Owned(text.into_owned())),
            Json::String(text) => Json::String(Cow::Owned(text.into_owned())),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Json::Object(object) => Json::Object(object.into_owned()),
        }
    }

    /// The same, as a value of serde_json.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Count(_) | Json::Number(_) => self.as_number().map_or(Value::Null, Value::Number),
            Json::String(text) => Value::String(text.clone().into_owned()),
            Json::Array(items) => items.iter().map(Json::to_value).collect(),
            Json::Object(object) => Value::Object(object.to_map()),
        }
    }
}

/// A field, or null where there is none.
impl<'a> Index<&str> for Json<'a> {
    type Output = Json<'a>;

    fn index(&self, key: &str) -> &Json<'a> {
        self.get(key).unwrap_or(&NULL)
    }
}

impl PartialEq<str> for Json<'_> {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == Some(text)
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Json::Null,
            Value::Bool(flag) => Json::Bool(*flag),
            Value::Number(number) => Json::from(number),
            Value::String(text) => Json::from(text),
            Value::Array(items) => items.iter().map(Json::from).collect(),
            Value::Object(map) => Json::Object(Object::from(map)),
        }
    }
}

impl<'a> From<&'a Number> for Json<'a> {
    fn from(number: &'a Number) -> Self {
        Json::Number(Cow::Borrowed(number.as_str()))
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Json::String(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Json<'a> {
    fn from(text: &'a String) -> Self {
        Json::String(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Json::String(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Json<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Json::String(text)
    }
}

impl From<u64> for Json<'_> {
    fn from(count: u64) -> Self {
        Json::Count(count)
    }
}

impl From<u32> for Json<'_> {
    fn from(count: u32) -> Self {
        Json::Count(count.into())
    }
}

impl From<bool> for Json<'_> {
    fn from(flag: bool) -> Self {
        Json::Bool(flag)
    }
}

impl<'a> From<Object<'a>> for Json<'a> {
    fn from(object: Object<'a>) -> Self {
        Json::Object(object)
    }
}

impl<'a> From<Vec<Json<'a>>> for Json<'a> {
    fn from(items: Vec<Json<'a>>) -> Self {
        Json::Array(items)
    }
}

/// Nothing is null.
impl<'a, T: Into<Json<'a>>> From<Option<T>> for Json<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Json::Null, Into::into)
    }
}

impl<'a, T: Into<Json<'a>>> FromIterator<T> for Json<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Json::Array(items.into_iter().map(Into::into).collect())
    }
}
