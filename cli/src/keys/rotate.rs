//! `relay keys rotate`: a new token for a RelayKey, the old one good until its overlap ends.

use anyhow::bail;
use clap::Args;
use crds::RelayKeySpec;
use serde_json::json;
use table::{ObjectRef, token};

use super::{
    secrets,
    target::{Change, Target},
    wait::{Patience, Step, Waited, is_refused},
};
use crate::{
    cluster::{self, Access, Said},
    outcome::Outcome,
    view::View,
};

/// Gives a RelayKey a new token, and waits until its Secret has it
///
/// Raises `spec.rotation.trigger`. The operator makes the new token; the old one stays good under the key `token-previous`
/// of the Secret until `spec.rotation.overlap` (24h) ends.
#[derive(Debug, Args)]
#[command(after_help = "\
A RelayKey that Argo CD or Flux keeps is refused: raise the trigger in Git.

Exit codes:
  0  the Secret has the new token, and data planes take it (with --wait=false: it is asked for)
  1  it is asked for, but not done: the output says what is in the way
  2  wrong arguments, or the cluster cannot be asked or refuses it

Examples:
  relay keys rotate checkout -n team-a
  relay keys rotate checkout -n team-a --show-token")]
pub(crate) struct Rotate {
    /// RelayKey, as NAME or NAMESPACE/NAME
    name: String,

    /// Prints the new token; needs the right to read the Secret
    #[arg(long)]
    show_token: bool,

    /// Changes it even where a GitOps tool or somebody else keeps it
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    patience: Patience,

    #[command(flatten)]
    access: Access,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

impl Rotate {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        if self.show_token && !self.patience.wait {
            bail!("--show-token reads the token once it is made: leave out --wait=false");
        }
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let cluster = self.access.cluster().await?;
        let target = Target::read(&cluster, &self.name).await?;
        let (id, before) = (target.id.clone(), key_id(&target.object));
        let Some(secret) = target.spec.secret.clone() else { bail!("{}", not_ours(&id, &target.spec)) };
        let (object, warnings) = target.change(&cluster, self.force, |spec| trigger(&id, spec)).await?;
        let generation = object.metadata.generation.unwrap_or_default();
        let is_new = |object: &_, said: &Said| {
            said.observed >= Some(generation) && key_id(object).is_some_and(|now| Some(now) != before)
        };
        let waited = self.patience.until(&cluster, &id, "it was not done", |object, said| match is_refused(said) {
            _ if is_new(object, said) && said.holds("Programmed") => Step::Done,
            Some(reason) => Step::Never(reason),
            None => Step::Waiting,
        });
        let waited = waited.await;
        let entry = secret.key.as_deref().unwrap_or(token::SECRET_KEY);
        let token = match (&waited, self.show_token) {
            (Waited::Done(_), true) => {
                Some(secrets::text(&cluster, &ObjectRef::new(&id.namespace, &secret.name), entry).await?)
            }
            _ => None,
        };
        let now = match &waited {
            Waited::Done(object) => key_id(object),
            Waited::Not | Waited::InVain(_) => None,
        };
        let (said, problem) = match &waited {
            Waited::Done(object) => {
                (format!("has a new token in Secret `{}`, key `{entry}`{}", secret.name, until(object)), None)
            }
            Waited::Not => ("is asked for a new token".to_owned(), None),
            Waited::InVain(reason) => (format!("is asked for a new token, but {reason}"), Some(reason)),
        };
        let mut value = json!({"id": id, "secret": {"name": secret.name, "key": entry}, "keyId": now,
                               "done": matches!(waited, Waited::Done(_)), "problem": problem});
        let mut out = format!("RelayKey {id} {said}\n");
        if let Some(token) = &token {
            value["token"] = token.expose().as_str().into();
            out += &format!("Token: {}\n", token.expose());
        }
        let out = self.output.document(&value)?.unwrap_or(out);
        let aside = warnings.iter().map(|warning| format!("note: {warning}\n")).collect();
        Ok(Outcome { out, aside, code: u8::from(problem.is_some()) })
    }
}

/// The part of the current token that may be shown.
fn key_id(object: &kube::core::DynamicObject) -> Option<String> {
    object.data["status"]["keyID"].as_str().map(str::to_owned)
}

/// Until when the old token is good.
fn until(object: &kube::core::DynamicObject) -> String {
    let tokens = object.data["status"]["tokens"].as_array().into_iter().flatten();
    let retiring = tokens.into_iter().find(|token| token["state"] == "Retiring");
    let until = retiring.and_then(|token| token["expiresAt"].as_str());
    until.map_or_else(String::new, |until| format!("; the old one is good until {until}"))
}

/// The next trigger.
fn trigger(id: &ObjectRef, spec: &RelayKeySpec) -> anyhow::Result<Change> {
    if spec.revoked == Some(true) {
        bail!("RelayKey `{id}` is revoked for good (`spec.revoked: true`): make another one");
    }
    let trigger = spec.rotation.as_ref().and_then(|rotation| rotation.trigger).unwrap_or(0);
    Ok(Change { path: &["rotation", "trigger"], value: (trigger + 1).into() })
}

fn not_ours(id: &ObjectRef, spec: &RelayKeySpec) -> String {
    match &spec.token_secret_ref {
        Some(reference) => format!(
            "the token of RelayKey `{id}` is yours (`spec.tokenSecretRef`): write another one into key `{}` of Secret `{}`",
            reference.key, reference.name
        ),
        None => format!(
            "the cluster knows the token of RelayKey `{id}` by its hash alone (`spec.tokenHash`): make another one by \
             `relay keys mint`, and put its hash there"
        ),
    }
}
