//! Reads a caller's JSON with its place, so that what is wrong can be named (`messages[2].content[0].text`).
//!
//! `null` is the same as absent everywhere: SDKs send it for options that were not set.

use serde_json::{Map, Number, Value};

use crate::Refusal;

/// A value and where it stands in the body.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    /// The field of an object; none where it is absent, null, or where this is no object.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At { value, path: self.path_of(key) })
    }

    /// The field of an object; errs where it is absent or null.
    pub(super) fn need(&self, key: &str) -> Result<At<'a>, Refusal> {
        self.object()?;
        self.get(key).ok_or_else(|| {
            let path = self.path_of(key);
            let message = format!("`{path}` is missing");
            Refusal::malformed(path, message)
        })
    }

    pub(super) fn object(&self) -> Result<&'a Map<String, Value>, Refusal> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    pub(super) fn list(&self) -> Result<Vec<At<'a>>, Refusal> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("an array"))?;
        let place = |(index, value)| At { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(place).collect())
    }

    pub(super) fn str(&self) -> Result<&'a str, Refusal> {
        self.value.as_str().ok_or_else(|| self.wrong("a string"))
    }

    pub(super) fn string(&self) -> Result<String, Refusal> {
        self.str().map(str::to_owned)
    }

    pub(super) fn bool(&self) -> Result<bool, Refusal> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    pub(super) fn u64(&self) -> Result<u64, Refusal> {
        self.value.as_u64().ok_or_else(|| self.wrong("a whole number that is not negative"))
    }

    pub(super) fn number(&self) -> Result<Number, Refusal> {
        self.value.as_number().cloned().ok_or_else(|| self.wrong("a number"))
    }

    /// A field read by one of the readers above; none where it is absent.
    pub(super) fn opt<T>(
        &self,
        key: &str,
        read: impl FnOnce(&At<'a>) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        self.get(key).map(|field| read(&field)).transpose()
    }

    /// What to say of a value of the wrong type.
    pub(super) fn wrong(&self, expected: &str) -> Refusal {
        match self.path.as_str() {
            "" => Refusal { param: None, message: format!("the body must be {expected}"), malformed: true },
            path => Refusal::malformed(path, format!("`{path}` must be {expected}")),
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_place_of_what_is_wrong() {
        let body = json!({"messages": [{"content": 1}]});
        let messages = At::root(&body).need("messages").unwrap().list().unwrap();
        let refusal = messages[0].need("content").unwrap().str().unwrap_err();
        assert_eq!(refusal, Refusal::malformed("messages[0].content", "`messages[0].content` must be a string"));
        assert_eq!(messages[0].need("role").unwrap_err().param.unwrap(), "messages[0].role");
    }

    #[test]
    fn null_is_absent_and_a_body_of_another_type_is_refused() {
        let body = json!({"n": null});
        assert_eq!(At::root(&body).opt("n", At::u64), Ok(None));
        assert_eq!(At::root(&json!([])).object().unwrap_err().message, "the body must be an object");
    }
}
