//! A stream ends when its owner has no right to it any more, whether or not its client goes when it is asked.

mod support;

use std::{sync::Arc, time::Duration};

use feed::{
    counts::Refusal,
    fleet::Identity,
    publisher::Publisher,
    schema::SCHEMA,
    server::{Denied, Server, Settings},
    wire::{ClientMessage, FromClient, FromServer, Hello, ServerMessage},
};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::{Code, Status};

use self::support::{keys, offer, with_credential};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client that says Hello and then nothing, and never goes by itself.
struct Stubborn {
    answers: ReceiverStream<Result<ServerMessage, Status>>,
    _says: mpsc::UnboundedSender<Result<ClientMessage, Status>>,
}

impl Stubborn {
    fn new(server: &Server, expires: Option<Duration>) -> Self {
        Self::reading(server, expires, SCHEMA)
    }

    /// One that reads rows up to this form.
    fn reading(server: &Server, expires: Option<Duration>, schema: u32) -> Self {
        let expires = expires.map(|left| std::time::SystemTime::now() + left);
        let identity = Identity { namespace: "apps".into(), expires, ..Identity::default() };
        let hello = Hello { namespace: "apps".into(), fleet: "default".into(), schema, ..Hello::default() };
        let (says, heard) = mpsc::unbounded_channel();
        says.send(Ok(FromClient::Hello(hello).into())).unwrap();
        Self { answers: server.attach(identity, UnboundedReceiverStream::new(heard)), _says: says }
    }

    async fn next(&mut self) -> Result<FromServer, Status> {
        let next = tokio::time::timeout(PATIENCE, self.answers.next()).await.expect("the server says something");
        next.expect("a stream that ends says why").map(|message| message.kind.unwrap())
    }

    /// Hears everything up to a word of this sort.
    async fn until(&mut self, what: impl Fn(&FromServer) -> bool) {
        while !what(&self.next().await.expect("the stream goes on")) {}
    }

    /// Hears what is said up to the end, and why it ended.
    async fn rest(&mut self) -> (Vec<FromServer>, Status) {
        let mut heard = Vec::new();
        loop {
            match self.next().await {
                Ok(message) => heard.push(message),
                Err(status) => return (heard, status),
            }
        }
    }
}

type Assigned = Arc<Mutex<Result<Publisher, Denied>>>;

fn server(assigned: &Assigned, eviction: Duration) -> Server {
    let assigned = assigned.clone();
    let settings = Settings { eviction, heartbeat: PATIENCE, ..Settings::default() };
    let identity = |_| std::future::ready(Err(Denied::Unauthenticated("streams are attached".into())));
    Server::new(settings, identity, move |_, _| assigned.lock().clone())
}

fn is_table(message: &FromServer) -> bool {
    matches!(message, FromServer::Begin(_) | FromServer::Chunk(_) | FromServer::End(_) | FromServer::Delta(_))
}

#[tokio::test(start_paused = true)]
async fn who_is_entitled_no_more_is_told_nothing_more_and_cut_off() {
    let publisher = Publisher::new();
    let assigned: Assigned = Arc::new(Mutex::new(Ok(publisher.clone())));
    let server = server(&assigned, Duration::from_millis(200));
    let mut client = Stubborn::new(&server, None);
    client.until(|message| matches!(message, FromServer::Welcome(_))).await;

    *assigned.lock() = Err(Denied::Forbidden("the account was taken out".into()));
    server.review();
    client.until(|message| matches!(message, FromServer::Rebalance(_))).await;
    offer(&publisher, 1, 1, &with_credential(keys([(1, 1)]), 1, 1));
    let (heard, status) = client.rest().await;
    assert!(!heard.iter().any(is_table), "{heard:?}");
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "the account was taken out"));
    assert_eq!(publisher.fleet().streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_belongs_to_another_fleet_is_served_until_it_has_had_time_to_go() {
    let (before, after) = (Publisher::new(), Publisher::new());
    let assigned: Assigned = Arc::new(Mutex::new(Ok(before.clone())));
    let server = server(&assigned, Duration::from_millis(200));
    let mut client = Stubborn::new(&server, None);
    client.until(|message| matches!(message, FromServer::Welcome(_))).await;

    *assigned.lock() = Ok(after);
    server.review();
    client.until(|message| matches!(message, FromServer::Rebalance(_))).await;
    offer(&before, 1, 1, &with_credential(keys([(1, 1)]), 1, 1));
    let (heard, status) = client.rest().await;
    assert!(heard.iter().any(is_table), "a revocation must not wait: {heard:?}");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn who_is_entitled_as_before_notices_nothing() {
    let publisher = Publisher::new();
    let assigned: Assigned = Arc::new(Mutex::new(Ok(publisher.clone())));
    let server = server(&assigned, Duration::ZERO);
    let mut client = Stubborn::new(&server, None);
    client.until(|message| matches!(message, FromServer::Welcome(_))).await;
    server.review();
    *assigned.lock() = Err(Denied::Unavailable("nothing is published yet".into()));
    server.review();
    offer(&publisher, 1, 1, &with_credential(keys([(1, 1)]), 1, 1));
    assert!(matches!(client.next().await, Ok(FromServer::Begin(_))), "it is not asked to go either");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_has_expired_serves_nobody() {
    let assigned: Assigned = Arc::new(Mutex::new(Ok(Publisher::new())));
    let server = server(&assigned, PATIENCE);
    let mut client = Stubborn::new(&server, Some(PATIENCE / 2));
    let (heard, status) = client.rest().await;
    assert!(heard.iter().any(|message| matches!(message, FromServer::Rebalance(_))), "it was asked before: {heard:?}");
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the token has expired"));
}

#[tokio::test]
async fn who_cannot_read_the_rows_gets_none_and_is_counted() {
    let publisher = Publisher::new();
    offer(&publisher, 1, 1, &keys([(1, 1)]));
    let assigned: Assigned = Arc::new(Mutex::new(Ok(publisher.clone())));
    let server = server(&assigned, PATIENCE);
    let (heard, status) = Stubborn::reading(&server, None, SCHEMA - 1).rest().await;
    assert_eq!((heard.len(), status.code()), (0, Code::FailedPrecondition));
    assert!(status.message().contains("reads none newer than 0"), "{status:?}");
    assert_eq!(server.counts().refused(Refusal::Incompatible), 1);
    assert_eq!(publisher.fleet().streams(), 0);
}
