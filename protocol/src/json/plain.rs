//! Reads JSON text of plain form, as nearly all is, in one walk.

use std::borrow::Cow;

use super::{Json, Object, object::FIELDS};
use crate::skim::{Kind, MAX_DEPTH, Reader};

/// The value that a text is; none: serde_json is to read it.
pub(super) fn read(text: &str) -> Option<Json<'_>> {
    let mut reader = Reader::new(text);
    let value = value(&mut reader, MAX_DEPTH)?;
    reader.end()?;
    Some(value)
}

fn value<'a>(reader: &mut Reader<'a>, depth: usize) -> Option<Json<'a>> {
    let deeper = depth.checked_sub(1)?;
    match reader.kind()? {
        Kind::Object => {
            let mut fields = Vec::new();
            reader.fields(|reader, name| {
                if fields.capacity() == 0 {
                    fields = Vec::with_capacity(FIELDS);
                }
                fields.push((Cow::Borrowed(name), value(reader, deeper)?));
                Some(())
            })?;
            Some(Json::Object(Object::read(fields)))
        }
        Kind::Array => {
            let mut items = Vec::new();
            reader.array(|reader| {
                items.push(value(reader, deeper)?);
                Some(())
            })?;
            Some(Json::Array(items))
        }
        Kind::String => reader.text()?.get().map(Json::String),
        Kind::Number => number(reader.skip()?),
        Kind::True => reader.skip().map(|_| Json::Bool(true)),
        Kind::False => reader.skip().map(|_| Json::Bool(false)),
        Kind::Null => reader.null().map(|()| Json::Null),
    }
}

/// Exponents have several spellings, of which serde_json chooses one.
fn number(text: &str) -> Option<Json<'_>> {
    match text.parse() {
        Ok(count) => Some(Json::Count(count)),
        Err(_) if text.contains(['e', 'E']) => None,
        Err(_) => Some(Json::Number(Cow::Borrowed(text))),
    }
}
