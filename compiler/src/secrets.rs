//! Texts of Secrets and ConfigMaps of an object's own namespace. No text ever stands in an error.

use table::{ObjectRef, Secret};

use crate::{
    findings::Problem,
    reports::Reason,
    resolve::{World, did_you_mean, did_you_mean_object},
};

/// One text of a Secret.
pub(crate) struct Found {
    /// Without white space around it.
    pub(crate) text: Secret<String>,
    /// Whether there was some.
    pub(crate) was_trimmed: bool,
}

impl World<'_> {
    /// The text under `key` of the Secret `name`, as the field `field` of an object of `namespace` says.
    pub(crate) fn secret(&self, field: &str, namespace: &str, name: &str, key: &str) -> Result<Found, Problem> {
        let secrets = &self.resources.secrets;
        let Some(data) = secrets.get(&ObjectRef::new(namespace, name)) else {
            let all = secrets.range(ObjectRef::new(namespace, "")..);
            let names = all.take_while(|(id, _)| id.namespace == namespace).map(|(id, _)| id.name.as_str());
            let hint = did_you_mean_object(name, names);
            let message = format!("{field} `{name}` names no Secret in namespace `{namespace}`{hint}");
            return Err((Reason::SecretNotFound, message));
        };
        let Some(value) = data.get(key) else {
            let hint = did_you_mean(key, data.keys().map(String::as_str));
            return Err((Reason::SecretKeyMissing, format!("{field}: Secret `{name}` has no key `{key}`{hint}")));
        };
        let Ok(text) = std::str::from_utf8(value.expose()) else {
            return Err((Reason::Invalid, format!("{field}: key `{key}` of Secret `{name}` is not text in UTF-8")));
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err((Reason::SecretEmpty, format!("{field}: key `{key}` of Secret `{name}` is empty")));
        }
        Ok(Found { text: Secret::new(trimmed.to_owned()), was_trimmed: trimmed.len() != text.len() })
    }

    /// The text under `key` of the ConfigMap `name`.
    pub(crate) fn config(&self, field: &str, namespace: &str, name: &str, key: &str) -> Result<String, Problem> {
        let maps = &self.resources.config_maps;
        let Some(data) = maps.get(&ObjectRef::new(namespace, name)) else {
            let names = maps.keys().filter(|id| id.namespace == namespace).map(|id| id.name.as_str());
            let hint = did_you_mean_object(name, names);
            let message = format!("{field} `{name}` names no ConfigMap in namespace `{namespace}`{hint}");
            return Err((Reason::RefNotFound, message));
        };
        data.get(key).cloned().ok_or_else(|| {
            let hint = did_you_mean(key, data.keys().map(String::as_str));
            (Reason::RefNotFound, format!("{field}: ConfigMap `{name}` has no key `{key}`{hint}"))
        })
    }
}
