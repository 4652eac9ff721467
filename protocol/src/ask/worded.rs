//! Gives values by serde_json, whose errors say what is wrong and where. Slower than [`super::cursor`].

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::fields::{Elements, Fields, Value};

/// Reads the object that is all of `text` into `fields`.
pub(super) fn read<'b, F: Fields<'b>>(text: &'b str, fields: &mut F) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    Worded(&mut json).object(fields)?;
    json.end()
}

/// A value that serde is about to read.
struct Worded<D>(D);

impl<'b, D: Deserializer<'b>> Value<'b> for Worded<D> {
    type Error = D::Error;

    fn raw(self) -> Result<&'b str, D::Error> {
        <&RawValue>::deserialize(self.0).map(RawValue::get)
    }

    fn skip(self) -> Result<(), D::Error> {
        IgnoredAny::deserialize(self.0).map(drop)
    }

    fn object<F: Fields<'b>>(self, fields: &mut F) -> Result<(), D::Error> {
        self.0.deserialize_map(ObjectOf(fields))
    }

    fn list<E: Elements<'b>>(self, elements: &mut E) -> Result<(), D::Error> {
        self.0.deserialize_option(ListOf(elements))
    }

    fn counted(self) -> Result<(&'b str, usize), D::Error> {
        let raw = self.raw()?;
        Ok((raw, serde_json::from_str::<Vec<&RawValue>>(raw).map_or(0, |elements| elements.len())))
    }
}

struct ObjectOf<'r, F>(&'r mut F);

impl<'b, F: Fields<'b>> Visitor<'b> for ObjectOf<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'b>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name(PhantomData))? {
            map.next_value_seed(FieldOf { fields: &mut *self.0, name: &name })?;
        }
        Ok(())
    }
}

struct FieldOf<'r, F> {
    fields: &'r mut F,
    name: &'r str,
}

impl<'b, F: Fields<'b>> DeserializeSeed<'b> for FieldOf<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, json: D) -> Result<(), D::Error> {
        self.fields.field(self.name, Worded(json))
    }
}

struct ListOf<'r, E>(&'r mut E);

impl<'b, E: Elements<'b>> Visitor<'b> for ListOf<'_, E> {
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
    fn visit_some<D: Deserializer<'b>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_bytes(self)
    }

    fn visit_bytes<X: Error>(self, text: &[u8]) -> Result<(), X> {
        self.0.text(text.len());
        if self.0.listens() {
            self.0.piece(text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut list: A) -> Result<(), A::Error> {
        let mut index = 0;
        while list.next_element_seed(ElementOf { elements: &mut *self.0, index })?.is_some() {
            index += 1;
        }
        Ok(())
    }
}

struct ElementOf<'r, E> {
    elements: &'r mut E,
    index: usize,
}

impl<'b, E: Elements<'b>> DeserializeSeed<'b> for ElementOf<'_, E> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, json: D) -> Result<(), D::Error> {
        self.elements.element(self.index, Worded(json))
    }
}

/// Reads a key.
struct Name<'b>(PhantomData<&'b ()>);

impl<'b> DeserializeSeed<'b> for Name<'b> {
    type Value = Cow<'b, str>;

    fn deserialize<D: Deserializer<'b>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_bytes(self)
    }
}

impl<'b> Visitor<'b> for Name<'b> {
    type Value = Cow<'b, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_bytes<X: Error>(self, name: &'b [u8]) -> Result<Self::Value, X> {
        Ok(String::from_utf8_lossy(name))
    }

    fn visit_bytes<X: Error>(self, name: &[u8]) -> Result<Self::Value, X> {
        Ok(Cow::Owned(String::from_utf8_lossy(name).into_owned()))
    }
}
