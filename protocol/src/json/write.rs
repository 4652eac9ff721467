//! Writes JSON text.

use std::fmt;

use super::{Json, Object};
use crate::skim::is_plain;

/// Bytes of what is put together, mostly.
const USUAL: usize = 1024;

impl Json<'_> {
    /// Appends the text of this value.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Bool(true) => out.extend_from_slice(b"true"),
            Json::Bool(false) => out.extend_from_slice(b"false"),
            Json::Count(count) => write_count(out, *count),
            Json::Number(text) => out.extend_from_slice(text.as_bytes()),
            Json::String(text) => write_str(out, text),
            Json::Array(items) => {
                out.push(b'[');
                for (place, item) in items.iter().enumerate() {
                    separate(out, place);
                    item.write(out);
                }
                out.push(b']');
            }
            Json::Object(object) => object.write(out),
        }
    }
}

impl Object<'_> {
    /// Appends the text of this object.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (place, (name, value)) in self.iter().enumerate() {
            separate(out, place);
            write_str(out, name);
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }

    /// The text of this object.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(USUAL);
        self.write(&mut out);
        out
    }
}

/// The text of a value.
impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// The text of an object.
impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// Appends a text as a JSON string.
pub(crate) fn write_str(out: &mut Vec<u8>, text: &str) {
    if !is_plain(text.as_bytes()) {
        return serde_json::to_writer(out, text).expect("a Vec takes every byte");
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends a number.
pub(crate) fn write_count(out: &mut Vec<u8>, count: u64) {
    serde_json::to_writer(out, &count).expect("a Vec takes every byte");
}

fn separate(out: &mut Vec<u8>, place: usize) {
    if place > 0 {
        out.push(b',');
    }
}
