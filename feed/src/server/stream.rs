//! One stream from its Hello to its end: reads answers, sends what the session plans, keeps the heartbeat.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, future::BoxFuture};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tonic::Status;
use tracing::warn;

use super::{Denied, Shared, Summons};
use crate::{
    fleet::{Identity, Pod},
    parts::Digests,
    publisher::{Published, Publisher},
    schema::{self, SCHEMA},
    session::{Plan, Session},
    vector::Regression,
    wire::{
        Ack, ClientMessage, Fault, FromClient, FromServer, Hello, Nack, Rebalance, RebalanceReason, ServerMessage,
        Welcome, digest_of,
    },
};

/// How long a client may take to say Hello.
const HELLO: Duration = Duration::from_secs(10);

/// Heartbeats without a word from the client after which it counts as gone.
const MISSED: u32 = 3;

/// A token that expires is asked for anew so long before.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// A snapshot of fewer bytes needs no permit.
const SMALL: usize = 64 << 10;

type Outbound = mpsc::Sender<Result<ServerMessage, Status>>;

/// A snapshot that was made, and the permit to send it.
type Made = (Arc<Published>, Vec<ServerMessage>, OwnedSemaphorePermit);

/// One stream.
pub(super) struct Stream {
    shared: Arc<Shared>,
    publisher: Publisher,
    id: u64,
    session: Session,
    outbox: VecDeque<ServerMessage>,
    making: Option<BoxFuture<'static, Option<Made>>>,
    /// While a snapshot is on its way; with the heartbeats since.
    permit: Option<(OwnedSemaphorePermit, u32)>,
    /// Heartbeats since the client was heard.
    silent: u32,
    /// What was said last of how far the client is ahead.
    ahead: Option<Regression>,
    /// What the client has no right to any more.
    eviction: Option<Eviction>,
}

/// The end of a stream that somebody has no right to any more.
struct Eviction {
    at: Instant,
    /// Why, for the client.
    status: Status,
    /// Nothing more is sent.
    is_silenced: bool,
}

/// Takes the stream out of the fleet, however it ends.
struct Membership(Publisher, u64);

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.fleet().leave(self.1);
    }
}

impl Stream {
    /// Runs a stream to its end.
    pub(super) async fn run<S>(shared: Arc<Shared>, identity: Identity, mut inbound: S, outbound: Outbound)
    where
        S: futures::Stream<Item = Result<ClientMessage, Status>> + Send + Unpin,
    {
        let opened = tokio::select! {
            opened = open(&shared, &identity, &mut inbound) => opened,
            () = shared.stop.cancelled() => Err(Status::unavailable("shutting down")),
        };
        let ended = match opened {
            Ok((hello, publisher)) => {
                let id = publisher.fleet().join(pod(&hello));
                let _membership = Membership(publisher.clone(), id);
                let mut stream = Self {
                    session: Session::open(&hello),
                    outbox: [welcome(&shared)].into(),
                    shared: shared.clone(),
                    publisher,
                    id,
                    making: None,
                    permit: None,
                    silent: 0,
                    ahead: None,
                    eviction: None,
                };
                stream.converse(&identity, &hello.fleet, inbound, &outbound).await
            }
            Err(status) => {
                shared.counts.refuse_for(&status);
                Err(status)
            }
        };
        if let Err(status) = ended {
            // A client that reads nothing hears no reason.
            let _ = outbound.try_send(Err(status));
        }
    }

    async fn converse<S>(
        &mut self,
        identity: &Identity,
        fleet: &str,
        mut inbound: S,
        outbound: &Outbound,
    ) -> Result<(), Status>
    where
        S: futures::Stream<Item = Result<ClientMessage, Status>> + Send + Unpin,
    {
        let mut current = self.publisher.follow();
        let mut summons = self.shared.summons.subscribe();
        if let Some(Summons { reason: RebalanceReason::Shutdown, .. }) = *summons.borrow_and_update() {
            return Err(Status::unavailable("shutting down"));
        }
        let mut reviews = self.shared.reviews.subscribe();
        // What was decided between the answer to Hello and here.
        self.review(identity, fleet);
        let stop = self.shared.stop.clone();
        let heartbeat = self.shared.settings.heartbeat;
        let mut ticks = interval_at(Instant::now() + heartbeat, heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let expiry = expiry(identity);
        let mut is_expiring = expiry.is_some();
        let expired =
            identity.expires.map(|at| Instant::now() + at.duration_since(SystemTime::now()).unwrap_or_default());
        self.plan(&mut current);
        loop {
            tokio::select! {
                // Answers first: they make room for what comes next.
                biased;
                () = stop.cancelled() => return Err(Status::unavailable("shutting down")),
                message = inbound.next() => match message {
                    Some(message) => self.on(message?)?,
                    None => return Ok(()),
                },
                place = outbound.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { return Ok(()) };
                    let message = self.outbox.pop_front().ok_or_else(|| Status::internal("nothing to send"))?;
                    self.shared.counts.send(&message);
                    place.send(Ok(message));
                }
                made = made(&mut self.making) => self.send(made)?,
                changed = current.changed() => changed.map_err(|_| Status::unavailable("nothing is published any more"))?,
                changed = summons.changed() => {
                    changed.map_err(|_| Status::unavailable("shutting down"))?;
                    let summoned = *summons.borrow_and_update();
                    self.summon(summoned);
                }
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if is_expiring => {
                    is_expiring = false;
                    self.summon(Some(Summons { reason: RebalanceReason::Token, permille: 1000 }));
                }
                changed = reviews.changed() => {
                    changed.map_err(|_| Status::unavailable("shutting down"))?;
                    reviews.borrow_and_update();
                    self.review(identity, fleet);
                }
                status = evicted(&self.eviction) => return Err(status),
                () = sleep_until(expired.unwrap_or_else(Instant::now)), if expired.is_some() => {
                    return Err(Status::unauthenticated("the token has expired"));
                }
                _ = ticks.tick() => self.tick()?,
            }
            self.plan(&mut current);
        }
    }

    fn on(&mut self, message: ClientMessage) -> Result<(), Status> {
        self.silent = 0;
        match message.kind {
            Some(FromClient::Ack(ack)) => self.on_ack(&ack),
            Some(FromClient::Nack(nack)) => self.on_nack(nack)?,
            Some(FromClient::Report(report)) => self.update(|pod| pod.report = report),
            Some(FromClient::Pong(_)) => {}
            Some(FromClient::Hello(_)) => return Err(Status::invalid_argument("Hello is said once")),
            // A word of a later version.
            None => {}
        }
        Ok(())
    }

    fn on_ack(&mut self, ack: &Ack) {
        if !self.session.on_ack(ack) {
            if self.session.holds(&ack.root) {
                self.update(|pod| pod.rejections.clear());
            }
            return;
        }
        self.permit = None;
        self.update(|pod| {
            (pod.root, pod.revision, pod.apply_micros) = (digest_of(&ack.root), ack.revision, ack.apply_micros);
            (pod.rejections, pod.refused, pod.restored) = (Vec::new(), None, false);
        });
    }

    fn on_nack(&mut self, nack: Nack) -> Result<(), Status> {
        if !self.session.on_nack(&nack).map_err(|error| Status::data_loss(error.to_string()))? {
            if nack.fault() == Fault::None && self.session.holds(&nack.root) {
                self.update(|pod| pod.rejections = nack.rejections);
            }
            return Ok(());
        }
        self.permit = None;
        self.update(|pod| {
            pod.root = digest_of(&nack.root);
            if nack.fault() == Fault::None {
                (pod.revision, pod.apply_micros, pod.restored) = (nack.revision, nack.apply_micros, false);
                (pod.rejections, pod.refused) = (nack.rejections, None);
            } else {
                pod.refused = Some((nack.revision, nack.fault(), nack.message));
            }
        });
        Ok(())
    }

    fn update(&self, change: impl FnOnce(&mut Pod)) {
        self.publisher.fleet().update(self.id, change);
    }

    /// Queues what is to be sent next. Waits with it until all before has left: meanwhile, changes become one.
    fn plan(&mut self, current: &mut watch::Receiver<Option<Arc<Published>>>) {
        let is_silenced = self.eviction.as_ref().is_some_and(|eviction| eviction.is_silenced);
        if !self.outbox.is_empty() || self.making.is_some() || is_silenced {
            return;
        }
        let Some(current) = current.borrow_and_update().clone() else { return };
        let (zstd, max_frame) = (self.session.reads_zstd(), self.shared.settings.max_frame);
        let publisher = self.publisher.clone();
        let plan = self.session.plan(&current, |from, to| publisher.ops(from, to, zstd, max_frame));
        let ahead = match plan {
            Plan::Wait => None,
            Plan::Ahead(regression) => Some(regression),
            Plan::Delta(message) => {
                self.outbox.push_back(message);
                self.session.sent(current);
                None
            }
            Plan::Snapshot { held, urgent } => {
                let (snapshots, publisher) = (self.shared.snapshots.clone(), self.publisher.clone());
                self.making = Some(Box::pin(async move {
                    let permit = snapshots.acquire_owned().await.ok()?;
                    // What is newest now, not when the wait began.
                    let newest = publisher.current()?;
                    make(newest, held, urgent, zstd, max_frame)
                        .await
                        .map(|(newest, messages)| (newest, messages, permit))
                }));
                None
            }
        };
        if self.ahead != ahead {
            self.ahead.clone_from(&ahead);
            self.update(|pod| pod.ahead = ahead);
        }
    }

    fn send(&mut self, made: Option<Made>) -> Result<(), Status> {
        let (published, messages, permit) = made.ok_or_else(|| Status::internal("a snapshot could not be made"))?;
        let bytes: usize = messages.iter().map(prost::Message::encoded_len).sum();
        self.permit = (bytes > SMALL).then_some((permit, 0));
        self.outbox.extend(messages);
        self.session.sent(published);
        Ok(())
    }

    fn summon(&mut self, summons: Option<Summons>) {
        let Some(Summons { reason, permille }) = summons else { return };
        // Streams are numbered in turn, so neighbours fall into different parts.
        if self.id.wrapping_mul(617) % 1000 >= u64::from(permille) {
            return;
        }
        let jitter_ms = u32::try_from(self.shared.settings.jitter.as_millis()).unwrap_or(u32::MAX);
        self.outbox.push_back(FromServer::Rebalance(Rebalance { reason: reason.into(), jitter_ms }).into());
    }

    /// Asks anew what the owner of this stream gets.
    fn review(&mut self, identity: &Identity, fleet: &str) {
        let (status, is_silenced) = match (self.shared.assign)(identity, fleet) {
            // What was not sent in full is not taken up again: such a client comes anew.
            _ if self.eviction.as_ref().is_some_and(|eviction| eviction.is_silenced) => return,
            Ok(publisher) if publisher.is(&self.publisher) => {
                self.eviction = None;
                return;
            }
            Ok(_) => (Status::unavailable("this stream is of another fleet now"), false),
            Err(Denied::Unavailable(_)) => return,
            Err(denied) => (Status::from(denied), true),
        };
        if is_silenced {
            self.making = None;
            self.outbox.clear();
        }
        if self.eviction.is_none() {
            self.summon(Some(Summons { reason: RebalanceReason::Spread, permille: 1000 }));
        }
        let at = self.eviction.as_ref().map_or(Instant::now() + self.shared.settings.eviction, |before| before.at);
        self.eviction = Some(Eviction { at, status, is_silenced });
    }

    fn tick(&mut self) -> Result<(), Status> {
        self.silent += 1;
        if self.silent > MISSED {
            return Err(Status::deadline_exceeded(format!("nothing was heard for {MISSED} heartbeats")));
        }
        // A client that takes its time must not keep others waiting for ever.
        self.permit = self.permit.take().filter(|(_, age)| *age < MISSED).map(|(permit, age)| (permit, age + 1));
        if self.outbox.is_empty() {
            self.outbox.push_back(self.session.ping());
        }
        Ok(())
    }
}

/// When the time to go has passed.
async fn evicted(eviction: &Option<Eviction>) -> Status {
    let Some(Eviction { at, status, .. }) = eviction else { return std::future::pending().await };
    sleep_until(*at).await;
    status.clone()
}

async fn made(making: &mut Option<BoxFuture<'static, Option<Made>>>) -> Option<Made> {
    let Some(future) = making.as_mut() else { return std::future::pending().await };
    let made = future.await;
    *making = None;
    made
}

/// Packing takes milliseconds, so it has a thread of its own.
async fn make(
    published: Arc<Published>,
    held: Option<Digests>,
    urgent: bool,
    zstd: bool,
    max_frame: usize,
) -> Option<(Arc<Published>, Vec<ServerMessage>)> {
    let made = tokio::task::spawn_blocking(move || {
        let messages = published.snapshot(held.as_ref(), urgent, zstd, max_frame);
        (published, messages)
    });
    made.await.ok()
}

async fn open<S>(shared: &Shared, identity: &Identity, inbound: &mut S) -> Result<(Hello, Publisher), Status>
where
    S: futures::Stream<Item = Result<ClientMessage, Status>> + Unpin,
{
    let first = timeout(HELLO, inbound.next()).await.map_err(|_| Status::deadline_exceeded("no Hello came"))?;
    let Some(FromClient::Hello(hello)) = first.transpose()?.and_then(|message| message.kind) else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    check(identity, &hello)?;
    schema::written_for(&hello).inspect_err(|denied| {
        warn!(
            pod = hello.pod,
            namespace = hello.namespace,
            build = hello.build,
            schema = hello.schema,
            "a data plane is refused: {denied}"
        )
    })?;
    let publisher = (shared.assign)(identity, &hello.fleet)?;
    Ok((hello, publisher))
}

/// A pod speaks for itself alone.
fn check(identity: &Identity, hello: &Hello) -> Result<(), Denied> {
    let differs = |what: &str, token: &str, said: &str| {
        Err(Denied::Forbidden(format!("the token is of {what} `{token}`, and Hello says `{said}`")))
    };
    if identity.namespace != hello.namespace {
        return differs("namespace", &identity.namespace, &hello.namespace);
    }
    match &identity.pod {
        Some(pod) if pod.name != hello.pod => differs("pod", &pod.name, &hello.pod),
        Some(pod) if pod.uid != hello.pod_uid => differs("pod UID", &pod.uid, &hello.pod_uid),
        Some(_) | None => Ok(()),
    }
}

fn pod(hello: &Hello) -> Pod {
    Pod {
        namespace: hello.namespace.clone(),
        name: hello.pod.clone(),
        uid: hello.pod_uid.clone(),
        node: hello.node.clone(),
        build: hello.build.clone(),
        restored: hello.restored,
        root: hello.resume.as_ref().and_then(|resume| digest_of(&resume.root)),
        revision: 0,
        apply_micros: 0,
        rejections: Vec::new(),
        refused: None,
        ahead: None,
        report: crate::wire::Report::default(),
        since_ms: now_ms(),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn welcome(shared: &Shared) -> ServerMessage {
    let settings = &shared.settings;
    let welcome = Welcome {
        server_id: settings.server_id.clone(),
        schema: SCHEMA,
        heartbeat_ms: u32::try_from(settings.heartbeat.as_millis()).unwrap_or(u32::MAX),
        max_frame_bytes: u32::try_from(settings.max_frame).unwrap_or(u32::MAX),
    };
    FromServer::Welcome(welcome).into()
}

/// When to ask for a fresh token: at half of what is left where that is short.
fn expiry(identity: &Identity) -> Option<Instant> {
    let left = identity.expires?.duration_since(SystemTime::now()).unwrap_or_default();
    Some(Instant::now() + left.saturating_sub(BEFORE_EXPIRY.min(left / 2)))
}
