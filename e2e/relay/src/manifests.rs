//! Manifests that many tests need.

use k8s_openapi::ByteString;

/// A Host in each wire shape at an upstream, its HostKey and the Secret of both, a Model at each (`openai` and
/// `anthropic`), and a Policy `all` that grants everything.
pub fn routes(upstream: &str) -> String {
    let mut all = secret("provider", "key", "sk-provider-1");
    for (name, protocol, path) in [("openai", "OpenAI", "/v1"), ("anthropic", "Anthropic", "")] {
        all += &format!(
            "---
apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {{name: {name}}}
spec: {{protocol: {protocol}, baseURL: '{upstream}{path}', allowPlaintext: true, network: {{allowPrivateAddresses: true}}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {{name: {name}}}
spec: {{hostRef: {{name: {name}}}, source: {{secretKeyRef: {{name: provider, key: key}}}}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {{name: {name}}}
spec: {{hosts: [{{name: only, hostRef: {{name: {name}}}, upstreamModel: demo}}], maxOutputTokens: 4096}}
"
        );
    }
    all + "---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: all}
spec: {models: {allow: ['*']}}
"
}

/// A RelayKey of the Policy `all` with a token that is made for it, in a Secret of its name.
pub fn relay_key(name: &str) -> String {
    format!(
        "---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{name: {name}}}
spec: {{policyRefs: [{{name: all}}], secret: {{name: {name}}}}}
"
    )
}

/// A Secret with one entry.
pub fn secret(name: &str, entry: &str, text: &str) -> String {
    // Not `stringData`: two who apply it server-side would be told of a conflict though they want the same.
    let encoded = serde_json::to_string(&ByteString(text.into())).expect("bytes are written as base64");
    format!("---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ndata: {{{entry}: {encoded}}}\n")
}
