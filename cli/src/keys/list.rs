//! `relay keys list`: the RelayKeys of a cluster, and how each is. Never a token.

use clap::Args;
use crds::{Kind, RelayKeySpec};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use table::ObjectRef;

use crate::{
    cluster::{self, Access, Said, Standing, Within},
    outcome::Outcome,
    view::{View, table},
};

/// Lists RelayKeys: their policies, where their tokens are, and whether they are in effect
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relay keys list
  relay keys list -A -o wide
  relay keys list -o json | jq '.[] | select(.state != \"Ready\")'")]
pub(crate) struct List {
    /// All namespaces instead of one
    #[arg(short = 'A', long)]
    all_namespaces: bool,

    #[command(flatten)]
    access: Access,

    /// How they are printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

/// One RelayKey.
struct Listed {
    id: ObjectRef,
    /// Absent: it cannot be read.
    spec: Option<RelayKeySpec>,
    status: Value,
    standing: Standing,
}

impl List {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let cluster = self.access.cluster().await?;
        let within = if self.all_namespaces { Within::All } else { Within::Namespace(&cluster.namespace) };
        let objects = cluster.list(Kind::RelayKey, within).await?;
        let keys: Vec<Listed> = objects.iter().map(Listed::of).collect();
        let documents: Vec<Value> = keys.iter().map(Listed::json).collect();
        let out = match self.output.document(&documents)? {
            Some(document) => document,
            None if keys.is_empty() => within.namespace().map_or_else(
                || "There is no RelayKey\n".to_owned(),
                |name| format!("There is no RelayKey in namespace `{name}`\n"),
            ),
            None => lines(&keys, self.output.is_wide()),
        };
        Ok(Outcome { out, ..Outcome::default() })
    }
}

fn lines(keys: &[Listed], is_wide: bool) -> String {
    let mut head = vec!["KEY", "POLICIES", "TOKEN", "MODELS", "EXPIRES", "STATE"];
    if is_wide {
        head.extend(["KEY-ID", "MESSAGE"]);
    }
    let rows = keys.iter().map(|key| {
        let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        let (state, message) = key.state();
        let mut row = vec![
            key.id.to_string(),
            or_dash(Some(key.policies().join(","))),
            or_dash(key.token()),
            or_dash(key.status["effectiveModels"].as_u64().map(|models| models.to_string())),
            or_dash(key.expires()),
            state,
        ];
        if is_wide {
            row.extend([or_dash(key.status["keyID"].as_str().map(str::to_owned)), message]);
        }
        row
    });
    table(&head, &rows.collect::<Vec<_>>())
}

impl Listed {
    fn of(object: &DynamicObject) -> Self {
        Self {
            id: cluster::id(object),
            spec: serde_json::from_value(object.data["spec"].clone()).ok(),
            status: object.data["status"].clone(),
            standing: Said::of(object).standing(),
        }
    }

    fn policies(&self) -> Vec<String> {
        let references = self.spec.iter().flat_map(|spec| &spec.policy_refs);
        let shown = references.map(|reference| match &reference.namespace {
            Some(namespace) => format!("{namespace}/{}", reference.name),
            None => reference.name.clone(),
        });
        shown.collect()
    }

    /// Where the token is.
    fn token(&self) -> Option<String> {
        let RelayKeySpec { secret, token_hash, token_secret_ref, .. } = self.spec.as_ref()?;
        let made = secret.as_ref().map(|secret| format!("secret/{}", secret.name));
        let hash = token_hash.as_ref().map(|_| "hash".to_owned());
        made.or(hash).or_else(|| token_secret_ref.as_ref().map(|reference| format!("own/{}", reference.name)))
    }

    fn expires(&self) -> Option<String> {
        self.spec.as_ref()?.expires_at.as_ref().map(ToString::to_string)
    }

    /// In one word, and why.
    fn state(&self) -> (String, String) {
        match &self.standing {
            Standing::Ready => ("Ready".to_owned(), String::new()),
            Standing::Off(why) | Standing::NotReady(why) => (why.reason.clone(), why.message.clone()),
        }
    }

    fn json(&self) -> Value {
        let (state, message) = self.state();
        json!({
            "id": self.id,
            "policies": self.policies(),
            "token": self.token(),
            "keyId": self.status["keyID"],
            "tokens": self.status["tokens"],
            "models": self.status["effectiveModels"],
            "expiresAt": self.expires(),
            "state": state,
            "message": message,
        })
    }
}
