//! Requests at a steady rate, as of applications that notice nothing of what goes on behind a data plane.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use crate::client::{Ask, Connection};

/// Requests that are sent until it is dropped.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    sending: Vec<JoinHandle<()>>,
}

/// What came of requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were answered with a status.
    pub answers: BTreeMap<u16, u64>,
    /// Why the others were not answered.
    pub broken: Vec<String>,
    /// What was answered that was not wanted, the first few.
    pub unwanted: Vec<String>,
    /// The longest time that an answer took.
    pub longest: Duration,
}

impl Load {
    /// Sends a request to each of these, again and again, and wants answers with this status.
    pub fn start(ask: &Ask, to: &[SocketAddr], every: Duration, wanted: u16) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let sending = to.iter().map(|to| tokio::spawn(send(ask.clone(), *to, every, wanted, tally.clone()))).collect();
        Self { tally, sending }
    }

    /// What came of them so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.sending.iter().for_each(JoinHandle::abort);
    }
}

impl Tally {
    /// How many were sent and ended.
    pub fn all(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.broken.len() as u64
    }

    /// Panics with what was not answered with this status, if anything was.
    #[track_caller]
    pub fn assert_all(&self, status: u16) {
        let wanted = self.answers.get(&status).copied().unwrap_or(0);
        assert!(wanted > 0 && wanted == self.all(), "not all were answered with {status}: {self:?}");
    }
}

async fn send(ask: Ask, to: SocketAddr, every: Duration, wanted: u16, tally: Arc<Mutex<Tally>>) {
    const SHOWN: usize = 5;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut connection: Option<Connection> = None;
    loop {
        ticks.tick().await;
        let begun = Instant::now();
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(to).await {
                Ok(open) => open,
                Err(error) => {
                    tally.lock().broken.push(error);
                    continue;
                }
            },
        };
        let answer = open.ask(&ask).await;
        let mut tally = tally.lock();
        match answer {
            Ok(answer) => {
                *tally.answers.entry(answer.status).or_default() += 1;
                tally.longest = tally.longest.max(begun.elapsed());
                if answer.status != wanted && tally.unwanted.len() < SHOWN {
                    tally.unwanted.push(answer.text());
                }
                connection = Some(open);
            }
            Err(error) => tally.broken.push(error),
        }
    }
}
