//! One connection to one node, which many callers share. Commands are executed in the order in which they were sent; a
//! caller who does not wait for the answer loses only the answer. A line that broke stays broken: it is replaced.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use redis_client::{Cmd, Pipeline, RedisError, Value, aio::MultiplexedConnection};
use tokio_util::task::AbortOnDropHandle;

use super::{dial::Dialed, error::StoreError, reply, target::Address};

/// A connection to one node.
#[derive(Debug)]
pub(super) struct Line {
    address: Address,
    connection: MultiplexedConnection,
    alive: Arc<AtomicBool>,
    /// Probes in a row that got no answer.
    silent: AtomicU32,
    seat: Seat,
    _driver: AbortOnDropHandle<()>,
}

/// How the server knows a connection, so that it can be told to close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    /// Absent: the server would not say.
    pub(super) id: Option<i64>,
    pub(super) local: SocketAddr,
}

impl Line {
    /// Takes over a connection that was opened. Has to be called within a runtime.
    pub(super) fn new(address: Address, dialed: Dialed) -> Self {
        let alive = Arc::new(AtomicBool::new(true));
        let (driver, ended) = (dialed.driver, alive.clone());
        let driver = tokio::spawn(async move {
            driver.await;
            ended.store(false, Ordering::Release);
        });
        Self {
            address,
            connection: dialed.connection,
            alive,
            silent: AtomicU32::new(0),
            seat: Seat { id: None, local: dialed.local },
            _driver: AbortOnDropHandle::new(driver),
        }
    }

    pub(super) fn with_id(mut self, id: Option<i64>) -> Self {
        self.seat.id = id;
        self
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn seat(&self) -> Seat {
        self.seat
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(super) fn silent(&self) -> u32 {
        self.silent.load(Ordering::Relaxed)
    }

    /// Counts a probe that was answered or not.
    pub(super) fn probed(&self, answered: bool) {
        if answered {
            self.silent.store(0, Ordering::Relaxed);
        } else {
            self.silent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends a command and waits for its answer, for as long as the caller does.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.check()?;
        let mut connection = self.connection.clone();
        let value = connection.send_packed_command(command).await.map_err(|error| self.broken(&error))?;
        self.heed(&value);
        Ok(value)
    }

    /// Sends commands that nobody else's come between, and waits for all answers.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.check()?;
        let mut connection = self.connection.clone();
        let sent = connection.send_packed_commands(commands, 0, commands.len()).await;
        let values = sent.map_err(|error| self.broken(&error))?;
        values.iter().for_each(|value| self.heed(value));
        Ok(values)
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_alive() { Ok(()) } else { Err(StoreError::Lost(format!("the one to {} broke", self.address))) }
    }

    fn heed(&self, value: &Value) {
        if let Value::ServerError(error) = value
            && reply::ends_connection(error)
        {
            self.alive.store(false, Ordering::Release);
        }
    }

    fn broken(&self, error: &RedisError) -> StoreError {
        self.alive.store(false, Ordering::Release);
        StoreError::Lost(format!("{}: {error}", self.address))
    }
}
