//! Reads a caller's JSON with its place, so that what is wrong can be named (`messages[2].content[0].text`).
//!
//! `null` is the same as absent everywhere: SDKs send it for options that were not set.

use serde_json::Number;

use crate::{
    Refusal,
    json::{Json, Object},
};

/// A value and the body that it stands in. Its path is looked for once it has to be said.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    body: &'a Json<'a>,
    value: &'a Json<'a>,
}

impl<'a> At<'a> {
    pub(super) fn root(body: &'a Json<'a>) -> Self {
        Self { body, value: body }
    }

    pub(super) fn value(&self) -> &'a Json<'a> {
        self.value
    }

    /// The field of an object; none where it is absent, null, or where this is no object.
    pub(super) fn get(&self, key: &str) -> Option<At<'a>> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(At { body: self.body, value })
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

    pub(super) fn object(&self) -> Result<&'a Object<'a>, Refusal> {
        self.value.as_object().ok_or_else(|| self.wrong("an object"))
    }

    pub(super) fn list(&self) -> Result<impl ExactSizeIterator<Item = At<'a>> + use<'a>, Refusal> {
        let body = self.body;
        let items = self.value.as_array().ok_or_else(|| self.wrong("an array"))?;
        Ok(items.iter().map(move |value| At { body, value }))
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
        self.value.as_number().ok_or_else(|| self.wrong("a number"))
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
        match self.path().as_str() {
            "" => Refusal { param: None, message: format!("the body must be {expected}"), malformed: true },
            path => Refusal::malformed(path, format!("`{path}` must be {expected}")),
        }
    }

    fn path_of(&self, key: &str) -> String {
        let path = self.path();
        if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        find(self.body, self.value, &mut path);
        path
    }
}

/// Makes `path` that of a value within another; false where it is not within.
fn find(within: &Json<'_>, wanted: &Json<'_>, path: &mut String) -> bool {
    if std::ptr::eq(within, wanted) {
        return true;
    }
    let length = path.len();
    let mut is_found = |step: String, inner: &Json<'_>| {
        path.push_str(&step);
        let found = find(inner, wanted, path);
        if !found {
            path.truncate(length);
        }
        found
    };
    match within {
        Json::Object(object) => object.iter().any(|(name, inner)| match length {
            0 => is_found(name.to_owned(), inner),
            _ => is_found(format!(".{name}"), inner),
        }),
        Json::Array(items) => items.iter().enumerate().any(|(index, inner)| is_found(format!("[{index}]"), inner)),
        Json::Null | Json::Bool(_) | Json::Count(_) | Json::Number(_) | Json::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_place_of_what_is_wrong() {
        let body = json!({"messages": [{"content": 1}]});
        let body = Json::from(&body);
        let messages: Vec<_> = At::root(&body).need("messages").unwrap().list().unwrap().collect();
        let refusal = messages[0].need("content").unwrap().str().unwrap_err();
        assert_eq!(refusal, Refusal::malformed("messages[0].content", "`messages[0].content` must be a string"));
        assert_eq!(messages[0].need("role").unwrap_err().param.unwrap(), "messages[0].role");
    }

    #[test]
    fn null_is_absent_and_a_body_of_another_type_is_refused() {
        let body = json!({"n": null});
        assert_eq!(At::root(&Json::from(&body)).opt("n", At::u64), Ok(None));
        assert_eq!(At::root(&Json::from(&json!([]))).object().unwrap_err().message, "the body must be an object");
    }
}
