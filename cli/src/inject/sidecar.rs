//! The container that is put beside an application, and what it mounts. Its defaults are those of the chart.

use clap::Args;
use serde_json::{Map, Value, json};

/// What the container and its volume are called.
pub(super) const NAME: &str = "relay";

/// The program in the image of data planes.
const PROGRAM: &str = "/relay-dataplane";

/// Where the volume is.
const MOUNT: &str = "/var/run/relay";

/// For whom its token is.
const AUDIENCE: &str = "relay-push.llmrelay.io";

/// What sidecars are.
#[derive(Clone, Debug, Args)]
pub(super) struct Sidecar {
    /// Image of the data plane
    #[arg(long, default_value_t = image(), value_name = "IMAGE")]
    pub(super) image: String,

    /// When the image is pulled
    #[arg(long, default_value = "IfNotPresent", value_name = "POLICY")]
    #[arg(value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,

    /// Namespace that Relay is installed in
    #[arg(long, default_value = "relay-system", value_name = "NAME")]
    relay_namespace: String,

    /// Operator that tables come from [default: relay-operator.NAMESPACE.svc:9443]
    #[arg(long, value_name = "HOST:PORT")]
    operator: Option<String>,

    /// Where requests go that the sidecar cannot serve itself [default: `https://relay.NAMESPACE.svc:8443`]
    #[arg(long, value_name = "URL")]
    forward: Option<String>,

    /// Where sidecars listen on loopback; the port after it is their admin address
    #[arg(long, default_value_t = 8080, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65534))]
    pub(super) port: u16,

    /// What sidecars ask for
    #[arg(long, default_value = "cpu=50m,memory=32Mi", value_delimiter = ',', value_parser = amount, value_name = "NAME=AMOUNT")]
    requests: Vec<(String, String)>,

    /// What sidecars may use at most
    #[arg(long, default_value = "memory=256Mi", value_delimiter = ',', value_parser = amount, value_name = "NAME=AMOUNT")]
    limits: Vec<(String, String)>,

    /// Whether sidecars write usage records to their stdout
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    usage: bool,

    /// What sidecars log
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log: String,

    /// How they log
    #[arg(long, default_value = "json", value_name = "FORMAT", value_parser = ["json", "text"])]
    log_format: String,

    /// A further argument of sidecars; may be repeated
    #[arg(long = "arg", value_name = "ARGUMENT", allow_hyphen_values = true)]
    more: Vec<String>,
}

impl Sidecar {
    /// The container, as a native sidecar: it starts before all others and ends after them, so that Jobs end.
    pub(super) fn container(&self, port: u16) -> Value {
        let admin = format!("127.0.0.1:{}", port + 1);
        // It listens on loopback, where the kubelet cannot ask.
        let probe = json!({"command": [PROGRAM, "probe", format!("--admin={admin}")]});
        json!({
            "name": NAME,
            "image": self.image,
            "imagePullPolicy": self.image_pull_policy,
            "restartPolicy": "Always",
            "args": self.arguments(port, &admin),
            "env": [
                field("RELAY_POD_NAME", "metadata.name"),
                field("RELAY_POD_UID", "metadata.uid"),
                field("RELAY_POD_NAMESPACE", "metadata.namespace"),
                field("RELAY_NODE_NAME", "spec.nodeName"),
            ],
            "startupProbe": {"exec": probe, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60},
            "readinessProbe": {"exec": probe, "periodSeconds": 10, "timeoutSeconds": 5},
            "resources": {"requests": amounts(&self.requests), "limits": amounts(&self.limits)},
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": NAME, "mountPath": MOUNT, "readOnly": true}],
        })
    }

    /// Whom it trusts, and who it is to the operator.
    pub(super) fn volume(&self) -> Value {
        json!({"name": NAME, "projected": {"sources": [
            {"configMap": {"name": crds::rights::BUNDLE, "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"serviceAccountToken": {"path": "token", "audience": AUDIENCE, "expirationSeconds": 600}},
        ]}})
    }

    fn arguments(&self, port: u16, admin: &str) -> Vec<String> {
        let namespace = &self.relay_namespace;
        let operator = self.operator.clone().unwrap_or_else(|| format!("relay-operator.{namespace}.svc:9443"));
        let forward = self.forward.clone().unwrap_or_else(|| format!("https://relay.{namespace}.svc:8443"));
        let mut arguments = vec![
            "--sidecar".to_owned(),
            format!("--listen=127.0.0.1:{port}"),
            format!("--admin={admin}"),
            format!("--operator={operator}"),
            format!("--operator-ca={MOUNT}/ca.crt"),
            format!("--operator-token-file={MOUNT}/token"),
            format!("--forward={forward}"),
            format!("--forward-ca={MOUNT}/ca.crt"),
            "--drain-grace=20s".to_owned(),
        ];
        if self.usage {
            arguments.push("--usage=-".to_owned());
        }
        arguments.extend([format!("--log={}", self.log), format!("--log-format={}", self.log_format)]);
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

fn image() -> String {
    format!("relay-dataplane:{}", env!("CARGO_PKG_VERSION"))
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

fn amount(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, amount)) if !name.is_empty() && !amount.is_empty() => Ok((name.to_owned(), amount.to_owned())),
        Some(_) | None => Err(format!("`{text}` is no amount: `memory=64Mi` would be right")),
    }
}

fn amounts(of: &[(String, String)]) -> Map<String, Value> {
    of.iter().map(|(name, amount)| (name.clone(), json!(amount))).collect()
}

#[cfg(test)]
impl Default for Sidecar {
    fn default() -> Self {
        use clap::Parser;

        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            sidecar: Sidecar,
        }
        Line::parse_from(["inject"]).sidecar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_relay_is_follows_from_its_namespace_unless_it_is_said() {
        let with = |sidecar: Sidecar| sidecar.arguments(1, "a").join(" ");
        let there = with(Sidecar { relay_namespace: "routing".to_owned(), ..Sidecar::default() });
        assert!(there.contains("--operator=relay-operator.routing.svc:9443"), "{there}");
        assert!(there.contains("--forward=https://relay.routing.svc:8443"), "{there}");
        let said = with(Sidecar {
            operator: Some("blue-operator.x:1".to_owned()),
            forward: Some("https://blue.x:2".to_owned()),
            ..Sidecar::default()
        });
        assert!(said.contains("--operator=blue-operator.x:1") && said.contains("--forward=https://blue.x:2"), "{said}");
    }

    #[test]
    fn amounts_are_a_name_and_how_much() {
        assert_eq!(amount("cpu=1"), Ok(("cpu".to_owned(), "1".to_owned())));
        for wrong in ["cpu", "=1", "cpu="] {
            assert!(amount(wrong).unwrap_err().contains(wrong));
        }
    }
}
