//! Single values of a request, read from their raw text.

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Error, MapAccess};
use serde_json::value::RawValue;

use super::fields::{Fields, ObjectOf, skip};

/// `true`, `false` or `null`.
pub(super) fn boolean<X: Error>(raw: &RawValue) -> Result<Option<bool>, X> {
    match raw.get() {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(X::custom("expected true or false")),
    }
}

/// A whole number that is not negative; others are left to the upstream to judge.
pub(super) fn number<X: Error>(raw: &RawValue) -> Result<Option<u64>, X> {
    match raw.get() {
        "null" => Ok(None),
        text => match text.parse::<f64>() {
            Ok(value) if value >= 0.0 && value.fract() == 0.0 => Ok(Some(text.parse().unwrap_or(value as u64))),
            Ok(_) => Ok(None),
            Err(_) => Err(X::custom("expected a number")),
        },
    }
}

/// A string or `null`.
pub(super) fn string<X: Error>(raw: &RawValue) -> Result<Option<String>, X> {
    match raw.get() {
        "null" => Ok(None),
        text => serde_json::from_str::<Cow<'_, str>>(text)
            .map(|text| Some(text.into_owned()))
            .map_err(|_| X::custom("expected a string")),
    }
}

/// The string `name` of an object; none where the value is no object or has no such string.
pub(super) fn member<X: Error>(raw: &RawValue, name: &str) -> Result<Option<String>, X> {
    match raw_member(raw, name)? {
        Some(value) if value.get().starts_with('"') => string(value),
        _ => Ok(None),
    }
}

/// The string `inner` of the object `outer` of an object.
pub(super) fn nested<X: Error>(raw: &RawValue, outer: &str, inner: &str) -> Result<Option<String>, X> {
    match raw_member(raw, outer)? {
        Some(value) => member(value, inner),
        None => Ok(None),
    }
}

fn raw_member<'r, X: Error>(raw: &'r RawValue, name: &str) -> Result<Option<&'r RawValue>, X> {
    if raw.get() == "null" {
        return Ok(None);
    }
    let mut found = Member { name, value: None };
    let mut json = serde_json::Deserializer::from_str(raw.get());
    ObjectOf(&mut found).deserialize(&mut json).map_err(|_| X::custom("expected an object"))?;
    Ok(found.value)
}

struct Member<'n, 'de> {
    name: &'n str,
    value: Option<&'de RawValue>,
}

impl<'de> Fields<'de> for Member<'_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name != self.name {
            return skip(map);
        }
        self.value = Some(map.next_value()?);
        Ok(())
    }
}
