//! Reading JSON objects and lists field by field, without a tree, in the words of serde.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// Takes the fields of an object one by one.
pub(super) trait Fields<'de> {
    /// Takes one field's value from `map`, or leaves it to [`skip`].
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

/// Takes the elements of a list, or a string in its place.
pub(super) trait Elements<'de> {
    /// Takes the next element; false at the end.
    fn element<A: SeqAccess<'de>>(&mut self, index: usize, list: &mut A) -> Result<bool, A::Error>;

    /// Takes a string that stands where a list may; surrogates without a partner are kept.
    fn text(&mut self, text: &[u8]);
}

/// Passes over a value.
pub(super) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Reads an object into `F`.
pub(super) struct ObjectOf<'r, F>(pub(super) &'r mut F);

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for ObjectOf<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for ObjectOf<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name(PhantomData))? {
            self.0.field(&name, &mut map)?;
        }
        Ok(())
    }
}

/// Reads `null`, a string or a list into `E`.
pub(super) struct ListOf<'r, E>(pub(super) &'r mut E);

impl<'de, E: Elements<'de>> DeserializeSeed<'de> for ListOf<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_option(self)
    }
}

impl<'de, E: Elements<'de>> Visitor<'de> for ListOf<'_, E> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list")
    }

    fn visit_none<X: Error>(self) -> Result<(), X> {
        Ok(())
    }

    fn visit_unit<X: Error>(self) -> Result<(), X> {
        Ok(())
    }

    /// Bytes, not a string: serde_json then takes lists as well, and surrogates without a partner.
    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_bytes(self)
    }

    fn visit_bytes<X: Error>(self, text: &[u8]) -> Result<(), X> {
        self.0.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        while self.0.element(index, &mut list)? {
            index += 1;
        }
        Ok(())
    }
}

/// Reads a key; surrogates without a partner are replaced, for no name that is looked for has one.
struct Name<'de>(PhantomData<&'de ()>);

impl<'de> DeserializeSeed<'de> for Name<'de> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl<'de> Visitor<'de> for Name<'de> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<X: Error>(self, name: &'de [u8]) -> Result<Self::Value, X> {
        Ok(String::from_utf8_lossy(name))
    }

    fn visit_bytes<X: Error>(self, name: &[u8]) -> Result<Self::Value, X> {
        Ok(Cow::Owned(String::from_utf8_lossy(name).into_owned()))
    }
}
