//! `relay keys create`: a RelayKey in the cluster, and how to use it.

mod shape;
mod usage;

use anyhow::bail;
use clap::Args;
use crds::{Kind, RelayKey};
use kube::{api::PostParams, core::DynamicObject};
use serde_json::json;
use table::{ObjectRef, Secret, token};

use self::{shape::Shape, usage::Usage};
use super::{
    minted, secrets,
    target::MANAGER,
    wait::{Patience, Step, Waited, is_refused},
};
use crate::{
    cluster::{self, Access, Cluster, Doing, Trouble, Within},
    outcome::Outcome,
    view::View,
};

/// Makes a RelayKey in the cluster, waits until it is in effect, and says how to use it
///
/// The operator makes the token and keeps it in a Secret. With --hash-only the token is made here and printed once, as the
/// first line of stdout; the cluster is given its SHA-256 alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  the key is in effect (with --wait=false: it is made)
  1  the key is made, but not in effect: the output says why
  2  wrong arguments, or the cluster cannot be asked or refuses it

Examples:
  relay keys create checkout --policy team-a
  relay keys create checkout --policy team-a --rpm 60 --budget 50/Month --expires-in 720h
  relay keys create laptop --policy platform/dev --hash-only
  relay keys create checkout --policy team-a --show-token -o json | jq -r .token")]
pub(crate) struct Create {
    /// Name of the RelayKey
    name: String,

    #[command(flatten)]
    shape: Shape,

    /// Makes the token here: it is printed once, and the cluster is given its hash alone
    #[arg(long, conflicts_with_all = ["secret", "show_token", "rotate_every"])]
    hash_only: bool,

    /// Prints the token that the operator made; needs the right to read the Secret
    #[arg(long)]
    show_token: bool,

    /// Address of the data planes, for the lines that say how to use the key
    #[arg(long, default_value = "https://relay.example", value_name = "URL")]
    base_url: String,

    #[command(flatten)]
    patience: Patience,

    #[command(flatten)]
    access: Access,

    /// How the result is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

impl Create {
    pub(super) fn run(self) -> anyhow::Result<Outcome> {
        if self.show_token && !self.patience.wait {
            bail!("--show-token reads the token once it is made: leave out --wait=false");
        }
        cluster::block_on(self.told())
    }

    async fn told(self) -> anyhow::Result<Outcome> {
        let cluster = self.access.cluster().await?;
        let id = ObjectRef::new(&cluster.namespace, &self.name);
        let own = if self.hash_only { Some(minted()?) } else { None };
        let key = self.shape.relay_key(&id, own.as_ref().map(|own| own.token.expose().as_str()))?;
        create(&cluster, &id, &key).await?;
        // From here on the key is there: what goes wrong is told beside what was made, above all beside a token that is
        // nowhere else.
        let waited = self.patience.until(&cluster, &id, "it was not Ready", |_, said| match is_refused(said) {
            _ if said.holds("Ready") => Step::Done,
            Some(reason) => Step::Never(reason),
            None => Step::Waiting,
        });
        let waited = waited.await;
        let (token, unread) = match own {
            Some(own) => (Some(own.token), None),
            None if self.show_token => shown(&cluster, &id, &key).await,
            None => (None, None),
        };
        let usage = Usage { id: &id, key: &key, token: token.as_ref(), base_url: self.base_url.trim_end_matches('/') };
        outcome(&usage, &waited, unread, self.output, self.hash_only)
    }
}

async fn create(cluster: &Cluster, id: &ObjectRef, key: &RelayKey) -> anyhow::Result<()> {
    let object: DynamicObject = serde_json::from_value(serde_json::to_value(key)?)?;
    let api = cluster.api(Kind::RelayKey, Within::Namespace(&id.namespace));
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let doing = Doing::of("create", Kind::RelayKey, Some(&id.namespace), None);
    match cluster.ask(doing, api.create(&params, &object)).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.trouble == Trouble::Exists => bail!(
            "there is a RelayKey `{id}` already: take another name, or give it a new token by `relay keys rotate {}`",
            id.name
        ),
        Err(fault) => Err(fault.into()),
    }
}

async fn shown(cluster: &Cluster, id: &ObjectRef, key: &RelayKey) -> (Option<Secret<String>>, Option<String>) {
    let Some(secret) = &key.spec.secret else { return (None, None) };
    let entry = secret.key.as_deref().unwrap_or(token::SECRET_KEY);
    match secrets::text(cluster, &ObjectRef::new(&id.namespace, &secret.name), entry).await {
        Ok(token) => (Some(token), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

fn outcome(
    usage: &Usage<'_>,
    waited: &Waited,
    unread: Option<String>,
    view: View,
    is_token_first: bool,
) -> anyhow::Result<Outcome> {
    let (state, code) = match waited {
        Waited::Done(object) => {
            let models = object.data["status"]["effectiveModels"].as_u64();
            let models = models
                .map_or_else(String::new, |models| format!(": {}", crate::outcome::count(models as usize, "model")));
            (format!("is made and in effect{models}"), 0)
        }
        Waited::Not => ("is made".to_owned(), 0),
        Waited::InVain(reason) => (format!("is made, but not in effect: {reason}"), 1),
    };
    let code = if unread.is_some() { 1 } else { code };
    let problem = match waited {
        Waited::InVain(reason) => Some(reason.as_str()),
        Waited::Done(_) | Waited::Not => None,
    };
    let mut value = usage.json();
    value["ready"] = matches!(waited, Waited::Done(_)).into();
    value["problems"] = json!(problem.into_iter().chain(unread.as_deref()).collect::<Vec<_>>());
    let aside = unread.map(|reason| format!("the token cannot be shown: {reason}\n")).unwrap_or_default();
    if let Some(out) = view.document(&value)? {
        return Ok(Outcome { out, aside, code });
    }
    let mut out = String::new();
    if let Some(token) = usage.token.filter(|_| is_token_first) {
        out = format!("{}\n", token.expose());
    }
    out += &format!("RelayKey {} {state}\n", usage.id);
    if let Some(token) = usage.token.filter(|_| !is_token_first) {
        out += &format!("Token: {}\n", token.expose());
    }
    out += &usage.lines();
    Ok(Outcome { out, aside, code })
}
