//! Counters that this process keeps for itself and exchanges with the others every 250 ms: those of host keys and hosts
//! that live in another slot than the relay key's, and those of policies that trade exactness for speed.
//!
//! For each scope there is a mirror: what all processes counted together as of the last exchange, and what this one
//! changed since. It is right for a process that is alone; of others it knows what they had told by then.
//!
//! # How wrong it can be
//!
//! Between two exchanges a process draws no more than its share of a rule: a twentieth of the limit (one at least), or
//! what was left of the limit at the last exchange divided by the processes that live, whichever is less; but one request
//! always, if it fits into what was left. What it drew counts as net: what is given back may be drawn again.
//! [`Shares::admit`] keeps to that. So with P processes no more is admitted than
//!
//! > limit + (P - 1) x max(share, the largest request)
//!
//! and here is why. Of all that was admitted, take what was admitted upon the latest exchange, by process Z: then all that
//! had been told by that exchange and what Z drew since fitted into the limit. What is missing from that sum was drawn by
//! the other P - 1 processes upon earlier exchanges and not yet told: one share each. (Answers that turn out longer than
//! was reserved come on top, as with any limiter.)
//!
//! [`Shares::verdict`], for candidates, looks at what is left alone and not at the share: what the provider says is the
//! truth there, and a request that is kept from a provider that has room is lost. More is admitted then by what each
//! process draws between two exchanges. An exchange begins early, in the background, when half of a share is spent.
//!
//! What a process drew and told stays counted if it dies: the windows forget it as they roll, and its requests in flight
//! are forgotten after [`LEASE`](crate::limit::LEASE). What it had not told, nobody knows.
//!
//! Where Redis loses its data, every process tells again what it told of buckets and periods that are not over.

mod deltas;
mod domain;
mod mirror;
mod rounds;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::{domain::Domain, mirror::Mirror, rounds::Line};
use super::{
    fleet::Fleet,
    keys::Keys,
    link::{Link, Missed},
    script::Script,
};
use crate::limit::{
    RuleUsage,
    claims::ScopeClaim,
    counter::{Charge, Now, Outcome, Verdict},
    reservation::{BudgetAlert, Standing},
    window::Millis,
};

/// Why leased scopes did not let a request in.
#[derive(Clone, Debug)]
pub(super) enum Short {
    /// A rule refuses.
    Refused(Verdict),
    /// There may be room, but this process has to ask: await [`Shares::refresh`] of these domains and try again.
    Stale(Vec<String>),
}

/// Calls the exchange script, for a domain, on these keys, with this argument.
pub(super) type Call =
    Box<dyn Fn(&str, Vec<String>, Vec<u8>) -> BoxFuture<'static, Result<Vec<u8>, Missed>> + Send + Sync>;

/// Calls the exchange script by a link.
pub(super) fn by(link: Arc<Link>, script: Script) -> Call {
    let script = Arc::new(script);
    Box::new(move |domain, keys, argument| {
        let (link, script, domain) = (link.clone(), script.clone(), domain.to_owned());
        async move { link.call(&domain, &script, &keys, &argument).await }.boxed()
    })
}

/// What shares need of the world.
pub(super) struct World {
    /// The names in Redis.
    pub(super) keys: Keys,
    /// The name of this process; no other that lives or lived has the same.
    pub(super) process: String,
    /// The time in Redis, as far as is known.
    pub(super) now: Box<dyn Fn() -> Now + Send + Sync>,
    /// Takes note of the time in Redis.
    pub(super) told: Box<dyn Fn(Millis) + Send + Sync>,
    /// How many processes live; 1 if that is not known.
    pub(super) live: Box<dyn Fn() -> u32 + Send + Sync>,
    /// The exchange script.
    pub(super) call: Call,
    /// Who has news of breakers, and wants to hear them; absent: nobody.
    pub(super) fleet: Option<Arc<Fleet>>,
}

/// The mirrors of all domains.
pub(super) struct Shares {
    world: World,
    state: Mutex<State>,
    /// The last number of a batch. One count for all domains, so that a domain that was forgotten uses none twice.
    batch: AtomicU64,
    /// The last number of a round.
    round: AtomicU64,
    /// An exchange should begin early.
    hurry: Notify,
}

#[derive(Default)]
struct State {
    domains: HashMap<String, Entry>,
}

/// A domain, and when it is exchanged.
#[derive(Default)]
struct Entry {
    domain: Domain,
    line: Arc<Line>,
    pace: rounds::Pace,
}

impl Shares {
    /// No counters yet.
    pub(super) fn new(world: World) -> Self {
        Self {
            world,
            state: Mutex::default(),
            batch: AtomicU64::new(0),
            round: AtomicU64::new(0),
            hurry: Notify::new(),
        }
    }

    /// The rule of these scopes that keeps a request out longest; none: as far as this process knows, there is room.
    /// Before the first exchange that is what it counted itself; one is begun then.
    pub(super) fn verdict(&self, scopes: &[ScopeClaim]) -> Option<Verdict> {
        if scopes.is_empty() {
            return None;
        }
        let now = (self.world.now)();
        let mut state = self.state.lock();
        let verdicts = scopes.iter().filter_map(|claim| {
            let (mirror, pace) = state.look(claim, now);
            if mirror.is_stale(now) {
                pace.hurry(&self.hurry);
            }
            mirror.refusal(claim, now)
        });
        verdicts.reduce(Verdict::longer)
    }

    /// Charges these scopes, whether it fits or not.
    pub(super) fn take(&self, scopes: &[ScopeClaim]) -> Vec<Charge> {
        if scopes.is_empty() {
            return Vec::new();
        }
        let now = (self.world.now)();
        self.charge(&mut self.state.lock(), scopes, now)
    }

    /// Decides and charges at once.
    pub(super) fn admit(&self, scopes: &[ScopeClaim]) -> Result<Vec<Charge>, Short> {
        let now = (self.world.now)();
        let mut state = self.state.lock();
        state.ask_first(scopes, |mirror, _| mirror.is_stale(now), now)?;
        let verdicts = scopes.iter().filter_map(|claim| state.look(claim, now).0.refusal(claim, now));
        if let Some(verdict) = verdicts.reduce(Verdict::longer) {
            return Err(Short::Refused(verdict));
        }
        let live = self.live();
        state.ask_first(scopes, |mirror, claim| !mirror.is_within_share(claim, live, now), now)?;
        Ok(self.charge(&mut state, scopes, now))
    }

    /// Ends charges.
    pub(super) fn conclude(&self, charges: &[Charge], outcome: Outcome) {
        if charges.is_empty() {
            return;
        }
        let now = (self.world.now)();
        let mut state = self.state.lock();
        for charge in charges {
            if let Some(entry) = state.domains.get_mut(charge.scope.domain()) {
                entry.domain.conclude(charge, outcome, now);
            }
        }
    }

    /// Takes the rates of these scopes into what the caller is told, and their budgets of which much is spent.
    pub(super) fn stand(&self, scopes: &[ScopeClaim], standing: &mut Standing, alerts: &mut Vec<BudgetAlert>) {
        if scopes.is_empty() {
            return;
        }
        let now = (self.world.now)();
        let mut state = self.state.lock();
        for claim in scopes {
            let (mirror, _) = state.look(claim, now);
            mirror.stand(claim, now, standing);
            mirror.alerts(claim, now, alerts);
        }
    }

    /// How each rule of these scopes stands, as far as this process knows.
    pub(super) fn usage(&self, scopes: &[ScopeClaim]) -> Vec<RuleUsage> {
        let now = (self.world.now)();
        let mut state = self.state.lock();
        scopes.iter().flat_map(|claim| state.look(claim, now).0.usage(claim, now)).collect()
    }

    /// How each rule of these scopes stands, after an exchange of all their domains.
    pub(super) async fn fresh_usage(&self, scopes: &[ScopeClaim]) -> Result<Vec<RuleUsage>, Missed> {
        // Looking at a scope is what makes it part of the next exchange.
        drop(self.usage(scopes));
        for domain in scopes.iter().map(|claim| claim.scope.domain()).collect::<BTreeSet<_>>() {
            self.refresh(domain).await?;
        }
        Ok(self.usage(scopes))
    }

    /// Scopes that are mirrored.
    #[cfg(test)]
    pub(super) fn mirrors(&self) -> usize {
        self.state.lock().domains.values().map(|entry| entry.domain.len()).sum()
    }

    fn charge(&self, state: &mut State, scopes: &[ScopeClaim], now: Now) -> Vec<Charge> {
        let live = self.live();
        let charges = scopes.iter().map(|claim| {
            let (mirror, pace) = state.look(claim, now);
            let charge = mirror.charge(claim, now);
            if mirror.is_half_spent(claim, live, now) {
                pace.hurry(&self.hurry);
            }
            charge
        });
        charges.collect()
    }

    fn live(&self) -> u64 {
        u64::from((self.world.live)().max(1))
    }

    fn next_batch(&self) -> u64 {
        self.batch.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl State {
    fn entry(&mut self, domain: &str) -> &mut Entry {
        if !self.domains.contains_key(domain) {
            self.domains.insert(domain.to_owned(), Entry::default());
        }
        self.domains.get_mut(domain).expect("it was inserted above")
    }

    /// The mirror of the scope that is claimed, and the pace of its domain.
    fn look(&mut self, claim: &ScopeClaim, now: Now) -> (&mut Mirror, &mut rounds::Pace) {
        let Entry { domain, pace, .. } = self.entry(claim.scope.domain());
        let mirror = domain.mirror(&claim.scope, now);
        mirror.look(claim, now);
        (mirror, pace)
    }

    /// Errs with the domains of the scopes of which this is so.
    fn ask_first(
        &mut self,
        scopes: &[ScopeClaim],
        is_so: impl Fn(&mut Mirror, &ScopeClaim) -> bool,
        now: Now,
    ) -> Result<(), Short> {
        let stale = scopes.iter().filter(|claim| is_so(self.look(claim, now).0, claim));
        let domains: BTreeSet<_> = stale.map(|claim| claim.scope.domain()).collect();
        if domains.is_empty() { Ok(()) } else { Err(Short::Stale(domains.into_iter().map(str::to_owned).collect())) }
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("process", &self.world.process).finish_non_exhaustive()
    }
}
