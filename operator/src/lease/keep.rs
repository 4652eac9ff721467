//! Keeps trying to hold the Lease, and tells everyone who asks whether this process does.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, api::PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Election, Moment, Record, Step};

/// Where this process stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who held the Lease when it was last seen.
    pub holder: Option<String>,
    /// The UID of the Lease: it changes only when the cluster's state was lost or restored.
    pub uid: Option<String>,
    /// Where the holder says that other replicas reach it.
    pub holder_address: Option<String>,
    /// Until when this process may write, if it does not hear otherwise.
    pub leading_until: Option<Instant>,
    /// From when on followers have had the time to tell this process what their data planes hold, if it leads.
    pub gathered_at: Option<Instant>,
}

impl Standing {
    /// Whether this process may write at this moment. Ask before every write: time alone can end it.
    pub fn is_leading(&self) -> bool {
        self.leading_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether followers have had the time to tell what their data planes hold.
    pub fn has_gathered(&self, now: Instant) -> bool {
        self.gathered_at.is_none_or(|at| now >= at)
    }
}

/// One Lease and this process's claim on it.
pub struct Keeper {
    api: Api<Lease>,
    name: String,
    election: Election,
    /// Where other replicas reach this one.
    address: Option<String>,
    /// As it was last read or written.
    last: Option<ObjectMeta>,
    was_leading: bool,
    /// Nobody held it before.
    is_first: bool,
    gathered_at: Option<Instant>,
}

/// The annotation of the Lease that says where other replicas reach the holder.
const ADDRESS: &str = "llmrelay.io/push-address";

/// How long it may take to give the Lease back.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// How long a follower may take to reach a leader of which it has heard.
const REACH: Duration = Duration::from_secs(1);

/// Holds the Lease whenever nobody else does, until `stop`; then gives it back. Whoever writes must have stopped before.
pub async fn keep(mut keeper: Keeper, standing: watch::Sender<Standing>, stop: CancellationToken) {
    loop {
        let limit = keeper.election.timing().renew_deadline / 2;
        let attempt = tokio::time::timeout(limit, keeper.attempt());
        tokio::select! {
            result = attempt => match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!(lease = keeper.name, %error, "the lease `{}` could not be looked after", keeper.name),
                Err(_) => warn!(lease = keeper.name, "the API server did not answer about lease `{}` for {limit:?}", keeper.name),
            },
            () = stop.cancelled() => break,
        }
        keeper.tell(&standing);
        let pause = keeper.pause();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
    }
    standing.send_modify(|standing| standing.leading_until = None);
    keeper.release().await;
}

impl Keeper {
    /// A claim on the Lease `name`, which is created where it is missing.
    pub fn new(api: Api<Lease>, name: impl Into<String>, election: Election) -> Self {
        let (name, address, last, gathered_at) = (name.into(), None, None, None);
        Self { api, name, election, address, last, was_leading: false, is_first: false, gathered_at }
    }

    /// Says on the Lease, while this process holds it, where other replicas reach it.
    pub fn at(self, address: Option<String>) -> Self {
        Self { address, ..self }
    }

    async fn attempt(&mut self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        let began = Moment::now();
        let record = found.as_ref().map(record);
        self.last = found.map(|lease| lease.metadata);
        let step = self.election.read(record, began);
        let is_first = matches!(step, Step::Create(_));
        let (written, record) = match step {
            Step::Wait => return Ok(()),
            Step::Create(record) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                (self.api.create(&PostParams::default(), &self.lease(metadata, &record)).await, record)
            }
            Step::Replace(record) => {
                let metadata = self.last.clone().unwrap_or_default();
                (self.api.replace(&self.name, &PostParams::default(), &self.lease(metadata, &record)).await, record)
            }
        };
        match written {
            Ok(written) => {
                self.is_first = is_first;
                self.last = Some(written.metadata);
                self.election.wrote(record, began.local);
                Ok(())
            }
            // Another was faster; the next look shows who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn tell(&mut self, standing: &watch::Sender<Standing>) {
        let is_leading = self.election.is_leading(Instant::now());
        if is_leading != self.was_leading {
            let what = if is_leading { "this replica leads: it writes" } else { "this replica no longer leads" };
            info!(lease = self.name, holder = self.election.holder(), "{what}");
            self.was_leading = is_leading;
            self.gathered_at = (is_leading && !self.is_first && self.address.is_some()).then(|| self.gathered_at());
        }
        let annotations = self.last.as_ref().and_then(|meta| meta.annotations.as_ref());
        let new = Standing {
            holder: self.election.holder().map(str::to_owned),
            uid: self.last.as_ref().and_then(|meta| meta.uid.clone()),
            holder_address: annotations.and_then(|all| all.get(ADDRESS)).cloned(),
            leading_until: self.election.leading_until(),
            gathered_at: self.gathered_at,
        };
        standing.send_if_modified(|old| {
            let has_changed = *old != new;
            *old = new;
            has_changed
        });
    }

    /// Followers hear of a new leader when they next look at the Lease.
    fn gathered_at(&self) -> Instant {
        Instant::now() + self.election.timing().retry.mul_f64(1.2) + REACH
    }

    /// The retry period and up to a fifth more, so that candidates do not march in step.
    fn pause(&self) -> Duration {
        self.election.timing().retry.mul_f64(1.0 + 0.2 * rand::random::<f64>())
    }

    /// What was being written when this was asked for may have arrived: so the Lease is read again first.
    async fn release(&mut self) {
        if !self.election.is_holder() {
            return;
        }
        match tokio::time::timeout(GIVE_BACK, self.give_back()).await {
            Ok(Ok(true)) => info!(lease = self.name, "gave the lease `{}` back", self.name),
            Ok(Ok(false)) => info!(lease = self.name, "another has the lease `{}` already", self.name),
            Ok(Err(error)) => warn!(lease = self.name, %error, "the lease `{}` was not given back", self.name),
            Err(_) => warn!(lease = self.name, "the lease `{}` was not given back in time", self.name),
        }
    }

    /// Whether it was this process's to give back.
    async fn give_back(&mut self) -> Result<bool, kube::Error> {
        loop {
            let found = self.api.get_opt(&self.name).await?;
            let Some(record) = self.election.give_back(found.as_ref().map(record), Moment::now()) else {
                return Ok(false);
            };
            let lease = self.lease(found.map(|lease| lease.metadata).unwrap_or_default(), &record);
            match self.api.replace(&self.name, &PostParams::default(), &lease).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => return written.map(|_| true),
            }
        }
    }
}

impl Keeper {
    fn lease(&self, metadata: ObjectMeta, record: &Record) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(record.holder.clone()),
            lease_duration_seconds: Some(i32::try_from(record.lease.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: record.acquired.map(MicroTime),
            renew_time: record.renewed.map(MicroTime),
            lease_transitions: Some(record.transitions),
            ..LeaseSpec::default()
        };
        let mut annotations = metadata.annotations.unwrap_or_default();
        // What another holder said of itself does not hold for this one.
        annotations.remove(ADDRESS);
        annotations.extend(self.address.clone().map(|address| (ADDRESS.to_owned(), address)));
        // Whoever wrote which field is the API server's to say.
        let metadata = ObjectMeta { managed_fields: None, annotations: Some(annotations), ..metadata };
        Lease { metadata, spec: Some(spec) }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        lease: Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).max(0).unsigned_abs().into()),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or(0),
    }
}
