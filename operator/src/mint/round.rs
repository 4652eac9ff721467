//! Does what [`decide`](super::decide) says, for all RelayKeys, a few at a time. What was looked at is remembered, so that
//! a key costs a request only when it or its Secret has changed, or when its token's time has come.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use compiler::Resources;
use crds::RelayKey;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource, api::PostParams};
use rand::{TryRng, rngs::SysRng};
use serde_json::{Map, Value, json};
use table::{
    ObjectRef,
    token::{self, Minted, RANDOM_BYTES},
};
use tokio::sync::watch;
use tracing::warn;

use super::{
    decide::{Decision, Live, decide},
    secret,
};
use crate::{
    lease::Standing,
    status::{
        FIELD_MANAGER,
        conditions::Issue,
        plan::{Tokens, asks_for_pause},
    },
};

/// How many Secrets are looked at, at the same time.
const AT_ONCE: usize = 8;
/// How many are looked at in one round: statuses must not wait for ten thousand Secrets.
const A_ROUND: usize = 512;
/// Longest time that the API server may take for one of them.
const LIMIT: Duration = Duration::from_secs(10);
/// After how long a Secret that could not be looked after is looked at again.
const RETRY: Duration = Duration::from_secs(5);
/// After how long a Secret is looked at again though nothing is known to have changed.
const REVISIT: Duration = Duration::from_secs(60 * 60);
/// How often a change that another made at the same moment is met before the next round has to do.
const TRIES: usize = 4;

/// What was done to the Secret of a RelayKey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Its first token was made.
    Issued,
    /// Its Secret or its token was gone, and another was made.
    Reissued,
    /// Its token was replaced; the old one is good until then.
    Rotated(Timestamp),
    /// The token that was replaced was taken out.
    Retired,
    /// Somebody else's Secret has its name.
    Conflicted(String),
}

/// What came of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// For conditions; `None`: this RelayKey needs no token any more.
    pub issue: Option<Issue>,
    /// The tokens that are good.
    pub live: Live,
}

/// What is remembered of the Secrets of all RelayKeys.
#[derive(Default)]
pub struct Minter {
    known: HashMap<ObjectRef, Known>,
    has_more: bool,
}

struct Known {
    input: u64,
    secret_name: String,
    told: Told,
    next: Timestamp,
}

impl Minter {
    /// Looks after the Secret of every RelayKey that has something new, while this replica leads. Gives what was done.
    pub async fn round(
        &mut self,
        client: &Client,
        resources: &Resources,
        standing: &watch::Receiver<Standing>,
        now: Timestamp,
    ) -> Vec<(ObjectRef, Happened)> {
        self.known.retain(|id, _| resources.relay_keys.contains_key(id));
        let due = resources.relay_keys.iter().filter_map(|(id, key)| {
            let spec = key.spec.secret.as_ref()?;
            let input = input(resources, id, key, &spec.name);
            let is_known = self.known.get(id).is_some_and(|known| known.input == input && now < known.next);
            (!is_known && !asks_for_pause(key.meta())).then_some((id, key, input))
        });
        let looks = due.map(|(id, key, input)| async move {
            let look = tokio::time::timeout(LIMIT, look_after(client, id, key, standing, now)).await;
            (id, key, input, look)
        });
        let looks: Vec<_> = looks.take(A_ROUND).collect();
        self.has_more = looks.len() == A_ROUND;
        let mut looks = futures::stream::iter(looks).buffer_unordered(AT_ONCE);
        let mut happened = Vec::new();
        while let Some((id, key, input, look)) = looks.next().await {
            let (told, what, next) = match look {
                Ok(Ok((told, what))) => {
                    let next = told.live.next.unwrap_or(Timestamp::MAX).min(after(now, REVISIT));
                    (told, what, next)
                }
                Ok(Err(error)) => {
                    warn!(relay_key = %id, %error, "the Secret of RelayKey `{id}` could not be looked after");
                    (told(Some(Issue::Pending), Live::default()), None, after(now, RETRY))
                }
                Err(_) => {
                    warn!(relay_key = %id, "the API server did not answer about the Secret of RelayKey `{id}` for {LIMIT:?}");
                    (told(Some(Issue::Pending), Live::default()), None, after(now, RETRY))
                }
            };
            let was_told = self.known.get(id).map(|known| &known.told.issue);
            let is_new = !matches!(what, Some(Happened::Conflicted(_))) || was_told != Some(&told.issue);
            happened.extend(what.filter(|_| is_new).map(|what| (id.clone(), what)));
            let secret_name = key.spec.secret.as_ref().map(|spec| spec.name.clone()).unwrap_or_default();
            self.known.insert(id.clone(), Known { input, secret_name, told, next });
        }
        happened
    }

    /// When the next round is due even if nothing changes.
    pub fn next(&self) -> Option<Timestamp> {
        if self.has_more { Some(Timestamp::MIN) } else { self.known.values().map(|known| known.next).min() }
    }

    /// Forgets everything, as a replica does that no longer leads.
    pub fn forget_all(&mut self) {
        self.known.clear();
    }
}

impl Tokens for Minter {
    fn issue(&self, key: &ObjectRef) -> Option<Issue> {
        self.known.get(key).map_or(Some(Issue::Pending), |known| known.told.issue.clone())
    }

    fn fields(&self, key: &ObjectRef) -> Map<String, Value> {
        let Some(known) = self.known.get(key).filter(|known| known.told.issue == Some(Issue::Issued)) else {
            return Map::new();
        };
        let mut fields = Map::new();
        fields.insert("secretName".to_owned(), json!(known.secret_name));
        let tokens = &known.told.live.tokens;
        if let Some(current) = tokens.iter().find(|token| token.state == crds::TokenState::Active) {
            fields.insert("keyID".to_owned(), json!(current.id));
        }
        if !tokens.is_empty() {
            fields.insert("tokens".to_owned(), json!(tokens));
        }
        fields
    }
}

/// Changes whenever there may be something to do.
fn input(resources: &Resources, id: &ObjectRef, key: &RelayKey, secret_name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let meta = key.meta();
    (&meta.uid, meta.generation, meta.deletion_timestamp.is_some()).hash(&mut hasher);
    resources.foreign.contains(id).hash(&mut hasher);
    // What Secrets hold is compared as it stands here, and never leaves this process.
    let data = resources.secrets.get(&ObjectRef::new(&id.namespace, secret_name));
    data.map(|data| data.iter().map(|(key, value)| (key, value.expose())).collect::<Vec<_>>()).hash(&mut hasher);
    hasher.finish()
}

/// Looks at one Secret and does what is to be done. A write that another's write forestalls starts anew.
async fn look_after(
    client: &Client,
    id: &ObjectRef,
    key: &RelayKey,
    standing: &watch::Receiver<Standing>,
    now: Timestamp,
) -> Result<(Told, Option<Happened>), kube::Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &id.namespace);
    let Some(spec) = &key.spec.secret else { return Ok((told(None, Live::default()), None)) };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    for _ in 0..TRIES {
        // Before it asks as well: who no longer leads does not wait thousands of times for a server that hangs.
        if !standing.borrow().is_leading() {
            return Ok((pending(now), None));
        }
        let found = api.get_opt(&spec.name).await?;
        let decision = decide(key, found.as_ref(), now);
        let (written, what) = match (decision, found) {
            (Decision::None, _) => return Ok((told(None, Live::default()), None)),
            (Decision::Keep(live), _) => return Ok((told(Some(Issue::Issued), live), None)),
            (Decision::Conflict(why), _) => {
                return Ok((
                    told(Some(Issue::Conflicted(why.clone())), Live::default()),
                    Some(Happened::Conflicted(why)),
                ));
            }
            _ if !standing.borrow().is_leading() => return Ok((pending(now), None)),
            (Decision::Create | Decision::Reissue, None) => {
                let secret = secret::created(key, spec, &minted()?, now);
                let what = if was_issued(key) { Happened::Reissued } else { Happened::Issued };
                (api.create(&params, &secret).await, what)
            }
            (Decision::Create | Decision::Reissue, Some(found)) => {
                let secret = secret::reissued(found, key, spec, &minted()?, now);
                (api.replace(&spec.name, &params, &secret).await, Happened::Reissued)
            }
            (Decision::Rotate { until }, Some(found)) => {
                let secret = secret::rotated(found, key, spec, &minted()?, now, until);
                (api.replace(&spec.name, &params, &secret).await, Happened::Rotated(until))
            }
            (Decision::Retire(_), Some(found)) => {
                let secret = secret::retired(found, spec);
                (api.replace(&spec.name, &params, &secret).await, Happened::Retired)
            }
            (Decision::Rotate { .. } | Decision::Retire(_), None) => continue,
        };
        match written {
            Ok(secret) => {
                let live = match decide(key, Some(&secret), now) {
                    Decision::Keep(live) | Decision::Retire(live) => live,
                    _ => Live::default(),
                };
                return Ok((told(Some(Issue::Issued), live), Some(what)));
            }
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            Err(error) => return Err(error),
        }
    }
    // Others write faster than we look; the next round sees what came of it.
    Ok((pending(now), None))
}

/// Nothing is known yet: the next round looks again.
fn pending(now: Timestamp) -> Told {
    told(Some(Issue::Pending), Live { next: Some(now), ..Live::default() })
}

fn told(issue: Option<Issue>, live: Live) -> Told {
    Told { issue, live }
}

fn was_issued(key: &RelayKey) -> bool {
    key.status.as_ref().is_some_and(|status| status.key_id.is_some())
}

fn minted() -> Result<Minted, kube::Error> {
    let mut random = [0; RANDOM_BYTES];
    SysRng.try_fill_bytes(&mut random).map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(token::mint(&random))
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}
