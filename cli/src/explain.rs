//! `relay explain`: who would serve a request, in which order, and why not the others.
//!
//! Admits and plans as the data plane does, by the same functions; only the request is made up, and health is that of a
//! process that has just started. The objects are those of a directory or of a cluster.

mod request;
mod source;

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, bail};
use clap::Args;
use dataplane::{
    admit::{self, Grant},
    auth,
    denied::Denied,
    plan::{self, Plan, Query, Skipped, Weather},
    pool::signals::Signals,
    upstream::credentials::Keyring,
    world::{RelayKey, World},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use table::{Credential, Credentials, ObjectRef, Secret};

use self::{request::Asked, source::Source};
use crate::{
    cluster::{self, Access, Home},
    outcome::{self, Outcome},
    view::View,
};

/// Says who would serve a request, in which order, and why not the others
///
/// Decides as a data plane does for a real request, with the health of a process that has just started. Nothing is sent to
/// any host. Reads a directory, or else the cluster, where no Secret is read: each that an object names is taken to hold
/// what it should, unless the operator says otherwise. The output says what was taken to be so.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes:
  0  somebody would serve it
  1  nobody would: the output says what the caller would be told
  2  wrong arguments, or the directory or the cluster cannot be read

Examples:
  relay explain --key checkout --model gpt-5 -n team-a
  relay explain . --key checkout --model gpt-5
  relay explain . --key team-a/checkout --model claude-sonnet-4-5@anthropic --tools --vision
  relay explain . --key checkout --model gpt-5 --input-tokens 300000 --output json
  relay explain . --key checkout --request body.json")]
pub(crate) struct Explain {
    /// Directory of manifests, or one file; absent: the cluster
    dir: Option<PathBuf>,

    #[command(flatten)]
    access: Access,

    #[command(flatten)]
    home: Home,

    /// Namespace whose Models every relay key sees after those of its own [default: the operator's; of a directory: the
    /// one of --namespace]
    #[arg(long, env = "RELAY_CATALOG_NAMESPACE", value_name = "NAME")]
    catalog_namespace: Option<String>,

    /// RelayKey that asks, as NAME or NAMESPACE/NAME
    #[arg(long, value_name = "KEY")]
    key: String,

    #[command(flatten)]
    asked: Asked,

    /// Address that the request comes from [default: one that the key allows]
    #[arg(long, value_name = "IP")]
    from: Option<IpAddr>,

    /// What chance is made of where weights decide: equal seeds give equal answers
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,

    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: View,
}

/// What is explained.
struct Explanation {
    key: ObjectRef,
    model: String,
    plan: Result<Plan, Denied>,
    skipped: Vec<Skipped>,
    /// What is not known, and was taken to be so.
    assumed: Vec<String>,
}

impl Explain {
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let source = match &self.dir {
            Some(dir) => self.directory(dir)?,
            None => cluster::block_on(self.cluster())?,
        };
        let explanation = self.explained(source)?;
        let out = match self.output.document(&explanation.json())? {
            Some(document) => document,
            None => explanation.lines().join("\n") + "\n",
        };
        Ok(Outcome { out, code: u8::from(explanation.plan.is_err()), ..Outcome::default() })
    }

    fn explained(&self, source: Source) -> anyhow::Result<Explanation> {
        let Source { name, namespace, compilation, notes } = source;
        let (credentials, mut assumed) = with_assumed(compilation.credentials);
        assumed.extend(notes);
        let keyring = Keyring::new(&credentials);
        let world = World::load(compilation.table, credentials);
        let key = self.relay_key(&world, &name, &namespace)?;
        let ask = self.asked.ask()?;
        let mut skipped = Vec::new();
        let plan = self.admitted(&world, &key, &ask.model).and_then(|grant| {
            let estimate = self.asked.estimate(&ask, &key.id, grant.public_model());
            let query =
                Query { purpose: self.asked.purpose(), ask: &ask, estimate, now: Timestamp::now(), seed: self.seed };
            let weather = Weather { signals: &Signals::new(), keyring: &keyring, now: Instant::now() };
            plan::explained(&world, &grant, &query, &weather, &mut skipped)
        });
        Ok(Explanation { key: ObjectRef::clone(&key.id), model: ask.model, plan, skipped, assumed })
    }

    fn admitted(&self, world: &World, key: &Arc<RelayKey>, model: &str) -> Result<Grant, Denied> {
        let allowed = key.row.allowed_cidrs.first().map(ipnet::IpNet::addr);
        let from = self.from.or(allowed).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let caller = auth::usable(key, from, Timestamp::now())?;
        admit::admit(world, caller, model)
    }

    fn relay_key(&self, world: &World, source: &str, namespace: &str) -> anyhow::Result<Arc<RelayKey>> {
        let id: ObjectRef = match self.key.contains('/') {
            true => self.key.parse().map_err(anyhow::Error::msg).context("--key")?,
            false => ObjectRef::new(namespace, &self.key),
        };
        if let Some(key) = world.relay_key(&id) {
            return Ok(key.clone());
        }
        if let Some(table::Row::Invalid { reason }) = world.table().relay_keys.get(&id) {
            bail!("RelayKey `{id}` is refused: {reason}");
        }
        let known: Vec<String> = world.table().relay_keys.keys().map(ToString::to_string).collect();
        let hint = crds::nearest(&id.to_string(), known.iter().map(String::as_str));
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        bail!("there is no RelayKey `{id}` in {source}{hint}")
    }
}

/// Credentials of which those that this machine does not have are made up, and the sentences that say so.
fn with_assumed(mut credentials: Credentials) -> (Credentials, Vec<String>) {
    let mut assumed = Vec::new();
    for (key, credential) in &mut credentials.host_keys {
        let missing = match credential {
            Credential::Value(_) => continue,
            Credential::File(path) if fs::read(&path).is_ok_and(|text| !text.trim_ascii().is_empty()) => continue,
            Credential::Env(name) if env::var(&name).is_ok_and(|text| !text.trim().is_empty()) => continue,
            Credential::File(path) => format!("file `{path}` is not here"),
            Credential::Env(name) => format!("variable `{name}` is not set here"),
            Credential::Sealed(sealed) => format!("it is sealed with key `{}`", sealed.key_id),
        };
        assumed.push(format!("key {key}: {missing}, and taken to be there where Relay runs"));
        // Keys are told apart by the hash of their secret.
        *credential = Credential::Value(Secret::new(format!("assumed-for-{key}")));
    }
    (credentials, assumed)
}

impl Explanation {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("RelayKey {} asks for `{}`", self.key, self.model)];
        match &self.plan {
            Ok(plan) => {
                lines.push(format!("Tried in this order, {} at most:", outcome::count(attempts(plan), "attempt")));
                lines.extend(plan.lines().into_iter().map(|line| format!("  {line}")));
            }
            Err(denied) => {
                let wire = denied.to_wire();
                lines.push(format!("Nobody would serve it. The caller is told, with status {}:", wire.status));
                lines.push(format!("  {denied}"));
            }
        }
        if !self.skipped.is_empty() {
            lines.push("Not tried:".to_owned());
            lines.extend(self.skipped.iter().map(|skipped| format!("  - {skipped}")));
        }
        lines.extend(self.assumed.iter().map(|sentence| format!("note: {sentence}")));
        lines
    }

    fn json(&self) -> Value {
        let skipped: Vec<String> = self.skipped.iter().map(ToString::to_string).collect();
        let mut value = json!({"key": self.key, "model": self.model, "skipped": skipped, "assumed": self.assumed});
        match &self.plan {
            Ok(plan) => {
                value["maxAttempts"] = attempts(plan).into();
                value["steps"] = steps(plan);
            }
            Err(denied) => {
                let wire = denied.to_wire();
                value["denied"] = json!({"status": wire.status, "code": wire.code, "message": denied.to_string()});
            }
        }
        value
    }
}

fn attempts(plan: &Plan) -> usize {
    plan.rules.max_attempts as usize
}

/// Every key of every candidate, in the order in which a request tries them.
fn steps(plan: &Plan) -> Value {
    let step = |step: &plan::Step<'_>| {
        json!({
            "host": step.candidate.host.id,
            "hostKey": step.draw.key.as_ref().map(|key| &key.id),
            "model": step.candidate.public_model(),
            "upstreamModel": step.candidate.upstream_model(),
            "shape": step.candidate.shape(),
        })
    };
    plan.steps().iter().map(step).collect()
}
