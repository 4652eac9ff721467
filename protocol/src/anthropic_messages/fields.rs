//! Reads a JSON object field by field and knows where it stands: a value of the wrong type is refused with its path.
//! Knows no shape; which fields there are is for the codecs to say.

use serde_json::{Number, Value};

use crate::{
    Refusal,
    json::{Json, Object},
};

/// An object that is being read. Every field that is taken leaves it, so that what remains is what nobody asked for.
/// `null` counts as absent.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    object: Object<'a>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The object that a body holds.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Refusal> {
        let refusal = |message| Refusal { param: None, message, malformed: true };
        match Json::parse(body) {
            Ok(Json::Object(object)) => Ok(Self { object, path: String::new() }),
            Ok(other) => Err(refusal(format!("the body must be a JSON object, not {}", kind_of(&other)))),
            Err(error) => Err(refusal(format!("the body is not valid JSON: {error}"))),
        }
    }

    /// The object at a path.
    pub(super) fn of(value: Json<'a>, path: impl Into<String>) -> Result<Self, Refusal> {
        let path = path.into();
        match value {
            Json::Object(object) => Ok(Self { object, path }),
            other => Err(wrong(&path, "an object", &other)),
        }
    }

    /// The path of a field of this object.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Where this object stands.
    pub(super) fn here(&self) -> &str {
        &self.path
    }

    /// A value of any type.
    pub(super) fn take(&mut self, key: &str) -> Option<Json<'a>> {
        self.object.take(key).filter(|value| !value.is_null())
    }

    /// A value that must be there.
    pub(super) fn required(&mut self, key: &str) -> Result<Json<'a>, Refusal> {
        self.take(key).ok_or_else(|| self.missing(key))
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Refusal> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text.into_owned())),
            Some(other) => Err(wrong(&self.path(key), "a string", &other)),
        }
    }

    /// A string that must be there.
    pub(super) fn required_text(&mut self, key: &str) -> Result<String, Refusal> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// A boolean.
    pub(super) fn flag(&mut self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.take(key) {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(wrong(&self.path(key), "a boolean", &other)),
        }
    }

    /// A whole number from zero.
    pub(super) fn count(&mut self, key: &str) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_u64() {
            Some(count) => Ok(Some(count)),
            None => Err(wrong(&self.path(key), "a whole number from 0", &value)),
        }
    }

    /// A number in its own spelling.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<Number>, Refusal> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.as_number() {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(&self.path(key), "a number", &value)),
        }
    }

    /// A list; empty where it is absent.
    pub(super) fn list(&mut self, key: &str) -> Result<Vec<Json<'a>>, Refusal> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Json::Array(list)) => Ok(list),
            Some(other) => Err(wrong(&self.path(key), "an array", &other)),
        }
    }

    /// An object.
    pub(super) fn object(&mut self, key: &str) -> Result<Option<Fields<'a>>, Refusal> {
        self.take(key).map(|value| Fields::of(value, self.path(key))).transpose()
    }

    /// What nobody took, `null` left out.
    pub(super) fn rest(self) -> impl Iterator<Item = (String, Value)> + use<'a> {
        let path = self.path;
        let left = self.object.into_iter().filter(|(_, value)| !value.is_null());
        left.map(move |(key, value)| (join(&path, &key), value.to_value()))
    }

    fn missing(&self, key: &str) -> Refusal {
        let path = self.path(key);
        let message = format!("`{path}` is required");
        Refusal::malformed(path, message)
    }
}

/// The path of a field of the object at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The path of an element of the list at `path`.
pub(super) fn at(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// A path without its indexes: the name of a field wherever it stands.
pub(super) fn plain(path: &str) -> String {
    let mut depth = 0_usize;
    path.chars()
        .filter(|character| {
            match character {
                '[' => depth += 1,
                ']' => {
                    depth = depth.saturating_sub(1);
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}

/// A value of the wrong type.
pub(super) fn wrong(path: &str, expected: &str, found: &Json<'_>) -> Refusal {
    Refusal::malformed(path, format!("`{path}` must be {expected}, not {}", kind_of(found)))
}

fn kind_of(value: &Json<'_>) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Count(_) | Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_path_of_a_value_of_the_wrong_type() {
        let value = json!({"text": 1});
        let mut fields = Fields::of(Json::from(&value), "messages[2].content[0]").expect("an object");
        let refusal = fields.text("text").expect_err("a number is no text");
        assert_eq!(refusal.param.as_deref(), Some("messages[2].content[0].text"));
        assert_eq!(refusal.message, "`messages[2].content[0].text` must be a string, not a number");
        assert!(refusal.malformed);
    }

    #[test]
    fn takes_null_for_absent_and_gives_back_what_nobody_took() {
        let value = json!({"a": null, "b": 1, "c": null});
        let mut fields = Fields::of(Json::from(&value), "x").expect("an object");
        assert_eq!(fields.text("a"), Ok(None));
        assert_eq!(fields.rest().collect::<Vec<_>>(), [("x.b".to_owned(), json!(1))]);
    }

    #[test]
    fn a_body_that_is_no_object_has_no_path() {
        assert_eq!(Fields::parse(b"[]").expect_err("a list").param, None);
        assert_eq!(Fields::parse(b"{").expect_err("cut").param, None);
    }

    #[test]
    fn a_plain_path_has_no_indexes() {
        assert_eq!(plain("messages[2].content[10].source"), "messages.content.source");
    }
}
