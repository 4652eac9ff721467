//! One stream of a client, from the connection to its end.

use std::time::{Duration, Instant as Moment, SystemTime};

use anyhow::{Context, bail};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Backoff, Client, Worker, show};
use crate::{
    replica::Refusal,
    schema,
    wire::{ClientMessage, Delta, FromClient, FromServer, Ping, Pong, ServerMessage, SnapshotEnd},
};

/// Answers that wait for the connection. They are small and few: if so many wait, nobody reads.
const QUEUE: usize = 32;

/// Until Welcome says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Heartbeats without a word from the server after which it counts as gone.
const MISSED: u32 = 4;

/// How a stream ended.
pub(super) enum End {
    /// The server asked for another connection.
    Elsewhere,
    /// It broke, or could not be opened.
    Lost(anyhow::Error),
}

/// An open stream.
pub(super) struct Talk<'a> {
    client: &'a mut Client,
    backoff: &'a mut Backoff,
    answers: mpsc::Sender<ClientMessage>,
    heartbeat: Duration,
    /// When to leave, once the server has asked for it.
    leave: Option<Instant>,
    reported: Instant,
    rows: u64,
}

/// What is put into effect off the thread that reads.
enum Work {
    Snapshot(SnapshotEnd),
    Delta(Delta),
}

impl<'a> Talk<'a> {
    /// Runs one stream to its end.
    pub(super) async fn run(client: &'a mut Client, backoff: &'a mut Backoff) -> End {
        let (answers, outbound) = mpsc::channel(QUEUE);
        let now = Instant::now();
        let mut talk = Self { client, backoff, answers, heartbeat: HEARTBEAT, leave: None, reported: now, rows: 0 };
        match talk.converse(outbound).await {
            Ok(end) => end,
            // A server that asked us to go and then went is as good as left.
            Err(_) if talk.leave.is_some() => End::Elsewhere,
            Err(error) => End::Lost(error),
        }
    }

    async fn converse(&mut self, outbound: mpsc::Receiver<ClientMessage>) -> anyhow::Result<End> {
        let mut connection = self.client.connector.open().await?;
        let hello = self.client.hello();
        self.answer(FromClient::Hello(hello))?;
        let opened = tokio::time::timeout(self.heartbeat, connection.sync(ReceiverStream::new(outbound))).await;
        let inbound = opened.context("the server does not answer")?.map_err(refused)?;
        self.client.state.send_modify(|state| state.streams += 1);
        self.listen(inbound).await
    }

    async fn listen(&mut self, mut inbound: Streaming<ServerMessage>) -> anyhow::Result<End> {
        let mut reports = self.client.report.subscribe();
        let mut unusable = self.client.worker.unusable.subscribe();
        let times = self.client.times;
        let mut report_at = Instant::now();
        let mut silent_until = Instant::now() + self.heartbeat * MISSED;
        loop {
            tokio::select! {
                message = inbound.message() => {
                    let Some(message) = message.map_err(refused)? else { bail!("the server ended the stream") };
                    self.on(message).await?;
                    silent_until = Instant::now() + self.heartbeat * MISSED;
                }
                changed = reports.changed() => {
                    changed.context("nobody reports any more")?;
                    report_at = report_at.min(self.reported + times.report_least);
                }
                changed = unusable.changed() => {
                    changed.context("nobody names what cannot be used any more")?;
                    self.name_unusable()?;
                }
                () = sleep_until(report_at) => {
                    let report = reports.borrow_and_update().clone();
                    // A server that ended the stream reads nothing more; why, it says on the other side.
                    if !self.answers.is_closed() {
                        self.answer(FromClient::Report(report))?;
                    }
                    self.reported = Instant::now();
                    report_at = self.reported + times.report;
                }
                () = sleep_until(silent_until) => bail!("nothing was heard for {MISSED} heartbeats"),
                () = sleep_until(self.leave.unwrap_or(silent_until)), if self.leave.is_some() => return Ok(End::Elsewhere),
            }
        }
    }

    fn answer(&self, answer: FromClient) -> anyhow::Result<()> {
        self.answers.try_send(answer.into()).ok().context("the server reads no answers")
    }

    async fn on(&mut self, message: ServerMessage) -> anyhow::Result<()> {
        match message.kind {
            Some(FromServer::Welcome(welcome)) => {
                schema::read_here(welcome.schema).map_err(anyhow::Error::msg)?;
                self.heartbeat = Duration::from_millis(welcome.heartbeat_ms.max(1).into());
                self.client.state.send_modify(|state| state.server = Some(welcome.server_id));
            }
            Some(FromServer::Begin(begin)) => {
                self.rows = begin.parts.iter().map(|part| u64::from(part.rows)).sum();
                let begun = self.client.worker.replica.begin(begin);
                self.refuse(begun)?;
            }
            Some(FromServer::Chunk(chunk)) => {
                let taken = self.client.worker.replica.chunk(chunk);
                self.refuse(taken)?;
            }
            Some(FromServer::End(end)) => self.settle(Work::Snapshot(end)).await?,
            Some(FromServer::Delta(delta)) => self.settle(Work::Delta(delta)).await?,
            Some(FromServer::Rebalance(rebalance)) => {
                let jitter = Duration::from_millis(rebalance.jitter_ms.into());
                let at = Instant::now() + jitter.mul_f64(rand::random_range(0.0..=1.0));
                self.leave = Some(self.leave.map_or(at, |before| before.min(at)));
            }
            Some(FromServer::Ping(ping)) => self.ping(&ping)?,
            // A word of a later version.
            None => {}
        }
        Ok(())
    }

    fn refuse(&self, result: Result<(), Refusal>) -> anyhow::Result<()> {
        let Err(refusal) = result else { return Ok(()) };
        self.client.state.send_modify(|state| state.trouble = Some(refusal.to_string()));
        tracing::warn!(revision = refusal.revision, fault = ?refusal.fault, "an update is refused: {refusal}");
        self.answer(FromClient::Nack(self.client.worker.replica.nack(&refusal)))
    }

    /// Answers again where what can be used is not what was answered.
    fn name_unusable(&mut self) -> anyhow::Result<()> {
        if !self.client.worker.name_unusable() {
            return Ok(());
        }
        show(&self.client.state, &self.client.worker.replica);
        match self.client.worker.replica.answer_again() {
            Some(answer) => self.answer(answer),
            None => Ok(()),
        }
    }

    fn ping(&mut self, ping: &Ping) -> anyhow::Result<()> {
        if self.client.worker.replica.ping(ping) {
            self.confirmed();
        }
        self.answer(FromClient::Pong(Pong { number: ping.number }))
    }

    /// What is in effect is the newest.
    fn confirmed(&mut self) {
        self.backoff.reset();
        let now = SystemTime::now();
        self.client.state.send_modify(|state| (state.confirmed, state.trouble) = (Some(now), None));
        show(&self.client.state, &self.client.worker.replica);
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let kept = self.client.worker.replica.keep(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.client.kept.send_replace(kept);
    }

    /// Puts what arrived into effect and answers.
    async fn settle(&mut self, work: Work) -> anyhow::Result<()> {
        let is_snapshot = matches!(work, Work::Snapshot(_));
        let settled = self.on_a_thread(move |worker| settle(worker, work)).await;
        let answer = match settled {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(()),
            Err(refusal) => return self.refuse(Err(refusal)),
        };
        let rows = std::mem::take(&mut self.rows);
        self.client.state.send_modify(|state| {
            if is_snapshot {
                (state.snapshots, state.snapshot_rows) = (state.snapshots + 1, state.snapshot_rows + rows);
            } else {
                state.deltas += 1;
            }
        });
        self.confirmed();
        self.answer(answer)
    }

    /// Reading and installing a large table takes tens of milliseconds, which requests must not wait for.
    async fn on_a_thread<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Worker) -> T + Send + 'static) -> T {
        let nobody = Worker::new(Box::new(|_| Err(Vec::new())));
        let mut worker = std::mem::replace(&mut self.client.worker, Box::new(nobody));
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut worker);
            (worker, done)
        });
        match done.await {
            Ok((worker, done)) => {
                self.client.worker = worker;
                done
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

fn settle(worker: &mut Worker, work: Work) -> Result<Option<FromClient>, Refusal> {
    let begun = Moment::now();
    let offer = match work {
        Work::Snapshot(end) => worker.replica.end(end)?,
        Work::Delta(delta) => Some(worker.replica.delta(delta)?),
    };
    let Some(offer) = offer else { return Ok(None) };
    worker.replica.settle(offer, &mut *worker.apply)?;
    worker.name_unusable();
    let Some(mut answer) = worker.replica.answer_again() else { return Ok(None) };
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    match &mut answer {
        FromClient::Ack(ack) => ack.apply_micros = micros,
        FromClient::Nack(nack) => nack.apply_micros = micros,
        FromClient::Hello(_) | FromClient::Report(_) | FromClient::Pong(_) => {}
    }
    Ok(Some(answer))
}

fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the server says {:?}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use std::io;

    use table::Secret;
    use tokio::net::TcpStream;

    use super::*;
    use crate::{
        client::{About, Times},
        connect::Connector,
        wire::Welcome,
    };

    fn client() -> Client {
        let nobody = || io::Error::other("nobody is called");
        let dial = move || std::future::ready(Err::<TcpStream, _>(nobody()));
        let connector =
            Connector::new("operator.test", dial, move || Err(nobody()), || Ok(Secret::new("token".into())));
        Client::new(About::default(), Times::default(), connector.unwrap(), |_| Ok(()))
    }

    async fn welcomed(schema: u32) -> (anyhow::Result<()>, Option<String>) {
        let (mut client, mut backoff) = (client(), Backoff::new(HEARTBEAT, HEARTBEAT));
        let (answers, now) = (mpsc::channel(QUEUE).0, Instant::now());
        let mut talk = Talk {
            client: &mut client,
            backoff: &mut backoff,
            answers,
            heartbeat: HEARTBEAT,
            leave: None,
            reported: now,
            rows: 0,
        };
        let welcome = Welcome { server_id: "operator-0".into(), schema, heartbeat_ms: 1, max_frame_bytes: 1 };
        let taken = talk.on(FromServer::Welcome(welcome).into()).await;
        (taken, client.state().borrow().server.clone())
    }

    #[tokio::test]
    async fn a_server_whose_rows_cannot_be_read_is_left() {
        let (taken, server) = welcomed(schema::SCHEMA).await;
        assert!(taken.is_ok());
        assert_eq!(server.as_deref(), Some("operator-0"));
        let (taken, server) = welcomed(schema::SCHEMA + 1).await;
        assert_eq!(taken.unwrap_err().to_string(), "rows have the form 2, and this data plane reads 1 to 1");
        assert_eq!(server, None);
    }
}
