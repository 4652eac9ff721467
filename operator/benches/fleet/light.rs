//! A data plane that keeps no table: it speaks the protocol over TLS with a token of its own, waits between tries as a
//! real one does, and answers that all is in effect. So a thousand fit beside the operator that is measured.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use feed::{
    client::backoff::Backoff,
    connect::Connector,
    replica::Replica,
    wire::{
        Ack, ClientMessage, Codec, FromClient, FromServer, Hello, Pong, Report, Resume, ServerMessage, SnapshotBegin,
    },
};
use plane::PodObject;
use prost::Message;
use table::Secret;
use tokio::{net::TcpStream, sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;

/// As a real one.
const REPORT: Duration = Duration::from_secs(10);

/// What all of a fleet share: where they connect, and what came of it.
pub(crate) struct Fleet {
    pub(crate) at: String,
    pub(crate) namespace: String,
    pub(crate) bundle: String,
    /// What a data plane that has a root says when it returns.
    resumes: Mutex<HashMap<Bytes, Resume>>,
    /// By stream: what is in effect there, and since when.
    board: Mutex<Vec<(Bytes, Option<Instant>)>>,
    pub(crate) counts: Counts,
}

/// What went over all streams.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) opened: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) summoned: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) deltas: AtomicU64,
    pub(crate) urgent: AtomicU64,
    pub(crate) up: AtomicU64,
    pub(crate) down: AtomicU64,
    why: Mutex<HashMap<String, u64>>,
}

impl Counts {
    /// Prints them and begins anew.
    pub(crate) fn print(&self) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let (opened, lost, summoned, rows) =
            (take(&self.opened), take(&self.lost), take(&self.summoned), take(&self.rows));
        let (deltas, urgent, up, down) = (take(&self.deltas), take(&self.urgent), take(&self.up), take(&self.down));
        println!(
            "    streams opened {opened}, lost {lost}, summoned {summoned}; rows in snapshots {rows}; deltas {deltas}, urgent {urgent}; bytes of messages up {up}, down {down}"
        );
        for (why, times) in std::mem::take(&mut *self.why.lock().unwrap()) {
            println!("      {times} times: {why}");
        }
    }

    pub(crate) fn forget(&self) {
        for count in
            [&self.opened, &self.lost, &self.summoned, &self.rows, &self.deltas, &self.urgent, &self.up, &self.down]
        {
            count.store(0, Ordering::Relaxed);
        }
        self.why.lock().unwrap().clear();
    }
}

impl Fleet {
    pub(crate) fn new(at: String, namespace: String, bundle: String) -> Arc<Self> {
        let (resumes, board, counts) = Default::default();
        Arc::new(Self { at, namespace, bundle, resumes, board, counts })
    }

    /// How many hold another root than `before`, and when each came to; all of them the same one.
    pub(crate) fn moved(&self, before: &[u8]) -> Vec<Instant> {
        let board = self.board.lock().unwrap();
        let moved = board.iter().filter(|(root, _)| !root.is_empty() && root != before);
        moved.filter_map(|(_, since)| *since).collect()
    }

    /// How many are on a stream and were told there that what they have is the newest.
    pub(crate) fn current(&self) -> usize {
        let board = self.board.lock().unwrap();
        let Some((root, _)) = board.iter().find(|(_, since)| since.is_some()) else { return 0 };
        board.iter().filter(|(held, since)| since.is_some() && held == root).count()
    }

    /// The root that the first holds.
    pub(crate) fn root(&self) -> Bytes {
        self.board.lock().unwrap()[0].0.clone()
    }

    fn hold(&self, stream: usize, root: Bytes) {
        self.board.lock().unwrap()[stream] = (root, Some(Instant::now()));
    }

    fn leave(&self, stream: usize) {
        self.board.lock().unwrap()[stream].1 = None;
    }
}

/// One of them.
pub(crate) struct Light {
    fleet: Arc<Fleet>,
    stream: usize,
    pod: PodObject,
    connector: Connector,
    /// Of the first alone: it keeps the table, so that all know what to say when they return.
    replica: Option<Replica>,
    root: Bytes,
}

impl Light {
    pub(crate) fn new(fleet: &Arc<Fleet>, pod: PodObject, token: String) -> Self {
        let (at, bundle) = (fleet.at.clone(), fleet.bundle.clone());
        let dial = move || TcpStream::connect(at.clone());
        let trust = move || Ok(bundle.clone().into_bytes());
        let token = move || Ok(Secret::new(token.clone()));
        let name = format!("relay-operator.{}.svc", fleet.namespace);
        let connector = Connector::new(&name, dial, trust, token).unwrap();
        let mut board = fleet.board.lock().unwrap();
        board.push(Default::default());
        let stream = board.len() - 1;
        let replica = (stream == 0).then(Replica::new);
        Self { fleet: fleet.clone(), stream, pod, connector, replica, root: Bytes::new() }
    }

    /// Connects again and again, with the waits of a real client.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        loop {
            let mut leave = None;
            let ended = self.converse(&mut backoff, &mut leave).await;
            self.fleet.leave(self.stream);
            if leave.is_none() {
                let why = ended.err().map_or_else(String::new, |error| format!("{error:#}"));
                *self.fleet.counts.why.lock().unwrap().entry(why).or_default() += 1;
                self.fleet.counts.lost.fetch_add(1, Ordering::Relaxed);
                sleep(backoff.wait()).await;
            }
        }
    }

    async fn converse(
        &mut self,
        backoff: &mut Backoff,
        leave: &mut Option<tokio::time::Instant>,
    ) -> anyhow::Result<()> {
        let mut connection = self.connector.open().await?;
        let (answers, outbound) = mpsc::channel(32);
        let hello = self.hello();
        self.say(&answers, FromClient::Hello(hello))?;
        let mut inbound = connection.sync(ReceiverStream::new(outbound)).await.context("opening")?;
        self.fleet.counts.opened.fetch_add(1, Ordering::Relaxed);
        let mut reports = tokio::time::interval(REPORT);
        let mut begun = None;
        loop {
            let message = tokio::select! {
                message = inbound.message() => message?.context("the server ended the stream")?,
                _ = reports.tick() => {
                    self.say(&answers, FromClient::Report(Report::default()))?;
                    continue;
                }
                () = tokio::time::sleep_until(leave.unwrap_or_else(tokio::time::Instant::now)), if leave.is_some() => return Ok(()),
            };
            self.fleet.counts.down.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
            if let Some(FromServer::Rebalance(rebalance)) = &message.kind {
                let jitter = Duration::from_millis(rebalance.jitter_ms.into());
                *leave = Some(tokio::time::Instant::now() + jitter.mul_f64(rand::random_range(0.0..=1.0)));
                self.fleet.counts.summoned.fetch_add(1, Ordering::Relaxed);
            }
            self.on(message, &mut begun, backoff, &answers)?;
        }
    }

    fn on(
        &mut self,
        message: ServerMessage,
        begun: &mut Option<SnapshotBegin>,
        backoff: &mut Backoff,
        answers: &mpsc::Sender<ClientMessage>,
    ) -> anyhow::Result<()> {
        if let Some(replica) = &mut self.replica {
            keep(replica, message.clone());
        }
        let counts = &self.fleet.counts;
        match message.kind {
            Some(FromServer::Begin(begin)) => {
                let rows: u64 = begin.parts.iter().map(|part| u64::from(part.rows)).sum();
                counts.rows.fetch_add(rows, Ordering::Relaxed);
                *begun = Some(begin);
            }
            Some(FromServer::End(end)) => {
                let begin = begun.take().context("a snapshot ends that did not begin")?;
                self.hold(begin.root.clone(), begin.root, end.revision, answers)?;
                backoff.reset();
            }
            Some(FromServer::Delta(delta)) => {
                counts.deltas.fetch_add(1, Ordering::Relaxed);
                counts.urgent.fetch_add(delta.urgent.into(), Ordering::Relaxed);
                anyhow::ensure!(delta.from_root == self.root, "a delta from what it does not have");
                self.hold(delta.root.clone(), delta.root, delta.revision, answers)?;
                backoff.reset();
            }
            Some(FromServer::Ping(ping)) => {
                if ping.root == self.root && !ping.root.is_empty() {
                    self.fleet.hold(self.stream, ping.root);
                }
                self.say(answers, FromClient::Pong(Pong { number: ping.number }))?;
            }
            Some(FromServer::Welcome(_) | FromServer::Chunk(_) | FromServer::Rebalance(_)) | None => {}
        }
        Ok(())
    }

    fn hold(
        &mut self,
        root: Bytes,
        acked: Bytes,
        revision: u64,
        answers: &mpsc::Sender<ClientMessage>,
    ) -> anyhow::Result<()> {
        self.root = root.clone();
        if let Some(resume) = self.replica.as_mut().and_then(|replica| replica.resume()) {
            self.fleet.resumes.lock().unwrap().insert(root.clone(), resume);
        }
        self.say(answers, FromClient::Ack(Ack { revision, root: acked, apply_micros: 0 }))?;
        self.fleet.hold(self.stream, root);
        Ok(())
    }

    fn hello(&self) -> Hello {
        Hello {
            pod: self.pod.name.clone(),
            pod_uid: self.pod.uid.clone(),
            namespace: self.fleet.namespace.clone(),
            schema: feed::schema::SCHEMA,
            codecs: vec![Codec::Zstd.into()],
            resume: self.fleet.resumes.lock().unwrap().get(&self.root).cloned(),
            ..Hello::default()
        }
    }

    fn say(&self, answers: &mpsc::Sender<ClientMessage>, words: FromClient) -> anyhow::Result<()> {
        let message = ClientMessage::from(words);
        self.fleet.counts.up.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
        answers.try_send(message).ok().context("the server reads no answers")
    }
}

/// Says Hello and then reads nothing, as one whose process is stopped: neither its stream nor its connection.
pub(crate) fn freeze(light: Light) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut light = light;
        runtime.block_on(async {
            let run = async {
                let (mut backoff, mut leave) = (Backoff::new(REPORT, REPORT), None);
                let _ = light.converse(&mut backoff, &mut leave).await;
            };
            let frozen = async {
                sleep(Duration::from_secs(8)).await;
                std::thread::park();
            };
            tokio::select! {
                () = run => {}
                () = frozen => {}
            }
        });
    })
}

fn keep(replica: &mut Replica, message: ServerMessage) {
    let arrived = match message.kind {
        Some(FromServer::Begin(begin)) => return replica.begin(begin).unwrap(),
        Some(FromServer::Chunk(chunk)) => return replica.chunk(chunk).unwrap(),
        Some(FromServer::Ping(ping)) => {
            replica.ping(&ping);
            return;
        }
        Some(FromServer::End(end)) => replica.end(end).unwrap(),
        Some(FromServer::Delta(delta)) => Some(replica.delta(delta).unwrap()),
        Some(FromServer::Welcome(_) | FromServer::Rebalance(_)) | None => return,
    };
    if let Some(arrived) = arrived {
        drop(replica.settle(arrived, &mut |_| Ok(())).unwrap());
    }
}
