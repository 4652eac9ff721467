//! How an application uses a RelayKey, in lines to copy.

use crds::RelayKey;
use serde_json::{Value, json};
use table::{ObjectRef, Secret, token};

/// A RelayKey that was just made.
pub(super) struct Usage<'a> {
    pub(super) id: &'a ObjectRef,
    pub(super) key: &'a RelayKey,
    /// The token, where it is shown.
    pub(super) token: Option<&'a Secret<String>>,
    /// Where data planes are, without a slash at its end.
    pub(super) base_url: &'a str,
}

impl Usage<'_> {
    /// The Secret with the token, and the key within it.
    fn secret(&self) -> Option<(&str, &str)> {
        let secret = self.key.spec.secret.as_ref()?;
        Some((&secret.name, secret.key.as_deref().unwrap_or(token::SECRET_KEY)))
    }

    pub(super) fn lines(&self) -> String {
        let base = self.base_url;
        let Some((secret, entry)) = self.secret() else {
            return format!(
                "The token is the first line, and nowhere else. OpenAI SDKs: OPENAI_BASE_URL={base}/v1, OPENAI_API_KEY; \
                 Anthropic's: ANTHROPIC_BASE_URL={base}, ANTHROPIC_AUTH_TOKEN\n"
            );
        };
        let namespace = &self.id.namespace;
        let reference = format!("valueFrom: {{secretKeyRef: {{name: {secret}, key: {entry}}}}}");
        format!(
            "\
The token is in Secret `{secret}`, key `{entry}`:
  kubectl get secret {secret} -n {namespace} -o go-template='{{{{index .data \"{entry}\" | base64decode}}}}'
In a container:
  env:
  - {{name: OPENAI_BASE_URL, value: {base}/v1}}
  - {{name: OPENAI_API_KEY, {reference}}}
  - {{name: ANTHROPIC_BASE_URL, value: {base}}}
  - {{name: ANTHROPIC_AUTH_TOKEN, {reference}}}
"
        )
    }

    pub(super) fn json(&self) -> Value {
        let mut value =
            json!({"id": self.id, "baseURL": {"openai": format!("{}/v1", self.base_url), "anthropic": self.base_url}});
        if let Some((name, key)) = self.secret() {
            value["secret"] = json!({"name": name, "key": key});
        }
        if let Some(hash) = &self.key.spec.token_hash {
            value["tokenHash"] = hash.as_str().into();
        }
        if let Some(token) = self.token {
            value["token"] = token.expose().as_str().into();
        }
        value
    }
}
