//! Single values of a request, read from their raw text.

use std::borrow::Cow;

use serde::de::Error;

use super::{
    cursor,
    fields::{Fields, Value},
    worded,
};

/// `true`, `false` or `null`.
pub(super) fn boolean<X: Error>(raw: &str) -> Result<Option<bool>, X> {
    match raw {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        "null" => Ok(None),
        _ => Err(X::custom("expected true or false")),
    }
}

/// A whole number that is not negative; others are left to the upstream to judge.
pub(super) fn number<X: Error>(raw: &str) -> Result<Option<u64>, X> {
    match raw {
        "null" => Ok(None),
        // As nearly all are written; no number of so few digits is too large.
        text if text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.parse().ok()),
        text => match text.parse::<f64>() {
            Ok(value) if value >= 0.0 && value.fract() == 0.0 => Ok(Some(text.parse().unwrap_or(value as u64))),
            Ok(_) => Ok(None),
            Err(_) => Err(X::custom("expected a number")),
        },
    }
}

/// A string or `null`.
pub(super) fn string<X: Error>(raw: &str) -> Result<Option<String>, X> {
    Ok(word(raw)?.map(Cow::into_owned))
}

/// The same, borrowed where it has no escapes.
pub(super) fn word<X: Error>(raw: &str) -> Result<Option<Cow<'_, str>>, X> {
    if raw == "null" {
        return Ok(None);
    }
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(plain) if !plain.contains('\\') => Ok(Some(Cow::Borrowed(plain))),
        _ => serde_json::from_str::<String>(raw)
            .map(|text| Some(Cow::Owned(text)))
            .map_err(|_| X::custom("expected a string")),
    }
}

/// The string `name` of an object; none where the value is no object or has no such string.
pub(super) fn member<X: Error>(raw: &str, name: &str) -> Result<Option<String>, X> {
    match raw_member(raw, name)? {
        Some(value) if value.starts_with('"') => string(value),
        _ => Ok(None),
    }
}

/// The string `inner` of the object `outer` of an object.
pub(super) fn nested<X: Error>(raw: &str, outer: &str, inner: &str) -> Result<Option<String>, X> {
    match raw_member(raw, outer)? {
        Some(value) => member(value, inner),
        None => Ok(None),
    }
}

/// Reads an object, given its text, into what `empty` makes.
pub(super) fn object<'b, F: Fields<'b>>(raw: &'b str, empty: impl Fn() -> F) -> Result<F, serde_json::Error> {
    let mut fields = empty();
    if cursor::read(raw, &mut fields).is_err() {
        fields = empty();
        worded::read(raw, &mut fields)?;
    }
    Ok(fields)
}

fn raw_member<'b, X: Error>(raw: &'b str, name: &str) -> Result<Option<&'b str>, X> {
    if raw == "null" {
        return Ok(None);
    }
    let found = object(raw, || Member { name, value: None }).map_err(|_| X::custom("expected an object"))?;
    Ok(found.value)
}

struct Member<'n, 'b> {
    name: &'n str,
    value: Option<&'b str>,
}

impl<'b> Fields<'b> for Member<'_, 'b> {
    fn field<V: Value<'b>>(&mut self, name: &str, value: V) -> Result<(), V::Error> {
        if name != self.name {
            return value.skip();
        }
        self.value = Some(value.raw()?);
        Ok(())
    }
}
