//! The side of the operator: accepts streams, asks who a token belongs to, and runs one session for each stream.
//!
//! A slow client holds up nobody: each stream has a task and a short queue of its own, and what changes meanwhile
//! becomes one change.

mod listen;
mod stream;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use table::Secret;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};

use self::stream::Stream;
use crate::{
    counts::Counts,
    fleet::Identity,
    gather::Gathered,
    publisher::Publisher,
    wire::{ClientMessage, FleetNews, GatherEnd, RebalanceReason, ServerMessage, config_server},
};

/// Messages that wait for a client to read; a snapshot's chunks wait one by one.
const QUEUE: usize = 4;

/// A client's message is at most a Hello with the digests of large tables, or a report of many breakers.
const MAX_CLIENT_MESSAGE: usize = 4 << 20;

/// How a server serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who answers; for people.
    pub server_id: String,
    /// How often a Ping is sent; three unanswered ones end the stream.
    pub heartbeat: Duration,
    /// Snapshots are cut into chunks of so many bytes.
    pub max_frame: usize,
    /// So many snapshots are on their way at once; others wait.
    pub snapshots: usize,
    /// The time over which clients spread when they are asked to come anew.
    pub jitter: Duration,
    /// How long a client may stay that has no right to its stream any more.
    pub eviction: Duration,
}

impl Default for Settings {
    /// Heartbeats every 15 s, frames of 1 MiB, 64 snapshots, 5 s of jitter, 10 s to go.
    fn default() -> Self {
        Self {
            server_id: String::new(),
            heartbeat: Duration::from_secs(15),
            max_frame: 1 << 20,
            snapshots: 64,
            jitter: Duration::from_secs(5),
            eviction: Duration::from_secs(10),
        }
    }
}

/// Why a stream is not served; the words are sent to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The token is missing, unknown or expired.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token's owner may not have this.
    #[error("{0}")]
    Forbidden(String),
    /// The client could not read what would be sent.
    #[error("{0}")]
    Incompatible(String),
    /// It cannot be said now; the client tries again.
    #[error("{0}")]
    Unavailable(String),
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated(words) => Status::unauthenticated(words),
            Denied::Forbidden(words) => Status::permission_denied(words),
            Denied::Incompatible(words) => Status::failed_precondition(words),
            Denied::Unavailable(words) => Status::unavailable(words),
        }
    }
}

type Authenticate = dyn Fn(Secret<String>) -> BoxFuture<'static, Result<Identity, Denied>> + Send + Sync;
type Admit = dyn Fn(Secret<String>) -> BoxFuture<'static, Result<(), Denied>> + Send + Sync;
type Assign = dyn Fn(&Identity, &str) -> Result<Publisher, Denied> + Send + Sync;

/// Asks clients to come anew.
#[derive(Clone, Copy, Debug)]
struct Summons {
    reason: RebalanceReason,
    /// Of a thousand streams, so many.
    permille: u16,
}

/// Serves streams. A handle: clones are the same server.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    settings: Settings,
    authenticate: Box<Authenticate>,
    assign: Box<Assign>,
    admit: Box<Admit>,
    gathered: Gathered,
    counts: Counts,
    snapshots: Arc<Semaphore>,
    summons: watch::Sender<Option<Summons>>,
    reviews: watch::Sender<u64>,
    streams: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server that asks `authenticate` who a token belongs to, and `assign` what the owner gets of a fleet. It takes no
    /// news of other servers.
    pub fn new<A>(
        settings: Settings,
        authenticate: impl Fn(Secret<String>) -> A + Send + Sync + 'static,
        assign: impl Fn(&Identity, &str) -> Result<Publisher, Denied> + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Result<Identity, Denied>> + Send + 'static,
    {
        let nobody = |_| std::future::ready(Err(Denied::Forbidden("no news is gathered here".into())));
        Self::gathering(settings, authenticate, assign, nobody)
    }

    /// As [`Server::new`], and takes news of other servers' data planes from those whose token `admit` lets.
    pub fn gathering<A, B>(
        settings: Settings,
        authenticate: impl Fn(Secret<String>) -> A + Send + Sync + 'static,
        assign: impl Fn(&Identity, &str) -> Result<Publisher, Denied> + Send + Sync + 'static,
        admit: impl Fn(Secret<String>) -> B + Send + Sync + 'static,
    ) -> Self
    where
        A: Future<Output = Result<Identity, Denied>> + Send + 'static,
        B: Future<Output = Result<(), Denied>> + Send + 'static,
    {
        Self(Arc::new(Shared {
            snapshots: Arc::new(Semaphore::new(settings.snapshots.max(1))),
            settings,
            authenticate: Box::new(move |token| Box::pin(authenticate(token))),
            assign: Box::new(assign),
            admit: Box::new(move |token| Box::pin(admit(token))),
            gathered: Gathered::default(),
            counts: Counts::default(),
            summons: watch::Sender::new(None),
            reviews: watch::Sender::new(0),
            streams: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// Asks `permille` of a thousand streams to come anew, to whichever server they then reach.
    pub fn rebalance(&self, permille: u16) {
        self.0.summons.send_replace(Some(Summons { reason: RebalanceReason::Spread, permille }));
    }

    /// Asks anew what each stream is to get. A client whose owner gets something else is asked to come anew, one that gets
    /// nothing is told nothing more; both are cut off if they have not gone in time.
    pub fn review(&self) {
        self.0.reviews.send_modify(|count| *count += 1);
    }

    /// Asks all clients to go elsewhere, waits at most `grace` until they have, then ends what is left.
    pub async fn shut_down(&self, grace: Duration) {
        self.0.summons.send_replace(Some(Summons { reason: RebalanceReason::Shutdown, permille: 1000 }));
        self.0.streams.close();
        let _ = tokio::time::timeout(grace, self.0.streams.wait()).await;
        self.0.stop.cancel();
        self.0.streams.wait().await;
    }

    /// Runs a stream of somebody who is known: what comes in, and where to answer. Returns at once.
    pub fn attach<S>(&self, identity: Identity, inbound: S) -> ReceiverStream<Result<ServerMessage, Status>>
    where
        S: futures::Stream<Item = Result<ClientMessage, Status>> + Send + Unpin + 'static,
    {
        let (outbound, answers) = mpsc::channel(QUEUE);
        self.0.streams.spawn(Stream::run(self.0.clone(), identity, inbound, outbound));
        ReceiverStream::new(answers)
    }

    /// What other servers said about their data planes.
    pub fn gathered(&self) -> &Gathered {
        &self.0.gathered
    }

    /// What was sent, and who was refused.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Who a request's token belongs to.
    async fn identity<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        if self.0.stop.is_cancelled() || self.0.streams.is_closed() {
            return Err(Status::unavailable("shutting down"));
        }
        Ok((self.0.authenticate)(bearer(request)?).await?)
    }

    fn service(&self) -> config_server::ConfigServer<Server> {
        config_server::ConfigServer::new(self.clone()).max_decoding_message_size(MAX_CLIENT_MESSAGE)
    }
}

#[tonic::async_trait]
impl config_server::Config for Server {
    type SyncStream = Pin<Box<dyn futures::Stream<Item = Result<ServerMessage, Status>> + Send>>;

    async fn sync(&self, request: Request<Streaming<ClientMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let identity = self.identity(&request).await.inspect_err(|status| self.0.counts.refuse_for(status))?;
        Ok(Response::new(Box::pin(self.attach(identity, request.into_inner()))))
    }

    async fn gather(&self, request: Request<Streaming<FleetNews>>) -> Result<Response<GatherEnd>, Status> {
        (self.0.admit)(bearer(&request)?).await?;
        tokio::select! {
            () = self.0.stop.cancelled() => Err(Status::unavailable("shutting down")),
            taken = self.0.gathered.take(request.into_inner()) => taken.map(|()| Response::new(GatherEnd {})),
        }
    }
}

fn bearer<T>(request: &Request<T>) -> Result<Secret<String>, Status> {
    let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    let missing = || Status::unauthenticated("no bearer token in the metadata `authorization`");
    token.map(|token| Secret::new(token.to_owned())).ok_or_else(missing)
}
