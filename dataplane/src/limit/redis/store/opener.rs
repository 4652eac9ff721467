//! Opens lines that are ready for calls, and says whether one that is open still is. Every step is bounded in time.

use std::{sync::Arc, time::Duration};

use redis_client::{Pipeline, Value};
use tokio::time::timeout;

use super::{
    dial::Dialer,
    error::StoreError,
    greeting::{self, Credentials, Greeting},
    line::{Line, Seat},
    target::{Address, Target},
};
use crate::limit::redis::script::Script;

/// How long opening a connection may take, TLS and scripts included, unless calls may take longer.
const OPENING: Duration = Duration::from_millis(300);
/// Probes in a row without an answer after which a connection is replaced. Until then it is better to wait: a server
/// that was only stopped for a while goes on with it, in order.
const PATIENCE: u32 = 3;

/// Opens lines to the nodes of one target.
pub(super) struct Opener {
    pub(super) target: Target,
    pub(super) scripts: Vec<Script>,
    dialer: Dialer,
}

impl Opener {
    /// Errs, in words for the operator, when the authorities for TLS cannot be read.
    pub(super) fn new(target: Target, scripts: Vec<Script>) -> anyhow::Result<Self> {
        let dialer = Dialer::new(target.tls.as_ref())?;
        Ok(Self { target, scripts, dialer })
    }

    /// The line itself if it answers and has the scripts, else a new one in its place.
    pub(super) async fn keep(&self, address: &Address, old: Option<Arc<Line>>) -> Result<Arc<Line>, StoreError> {
        let Some(old) = old else { return self.open(address, None).await };
        match self.probe(&old).await {
            Ok(()) => Ok(old),
            Err(error) if old.is_alive() && old.silent() < PATIENCE => Err(error),
            Err(_) => self.open(address, Some(old.seat())).await,
        }
    }

    /// A new line with the scripts, to a server that takes writes. The server closes the connection that it replaces: what
    /// that one was sent and has not been executed must not be executed after what the new one is sent.
    pub(super) async fn open(&self, address: &Address, replaced: Option<Seat>) -> Result<Arc<Line>, StoreError> {
        self.in_time(async {
            let greeting = Greeting::introduction(&self.credentials().await?).named().ready(&self.scripts);
            let line = Line::new(address.clone(), self.dialer.dial(address).await?);
            let id = greeting.heard(&line.send_all(greeting.pipeline()).await?)?;
            // Not before the new one is known to be good, lest the old one be closed for nothing.
            if let Some(farewell) = replaced.and_then(greeting::farewell) {
                // Who may not do this is no worse off than without it.
                line.send(&farewell).await?;
            }
            Ok(Arc::new(line.with_id(id)))
        })
        .await
    }

    /// What a node answers on a connection of its own, to which `credentials` open the door.
    pub(super) async fn ask(
        &self,
        address: &Address,
        credentials: &Credentials,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        self.in_time(async {
            let line = Line::new(address.clone(), self.dialer.dial(address).await?);
            let greeting = Greeting::introduction(credentials);
            if !greeting.is_empty() {
                greeting.heard(&line.send_all(greeting.pipeline()).await?)?;
            }
            line.send_all(commands).await
        })
        .await
    }

    /// Who we are, as of now.
    pub(super) async fn credentials(&self) -> Result<Credentials, StoreError> {
        let password = match &self.target.password {
            None => None,
            Some(password) => Some(password.read().await.map_err(StoreError::Refused)?),
        };
        Ok(Credentials { username: self.target.username.clone(), password, database: self.target.database })
    }

    async fn probe(&self, line: &Line) -> Result<(), StoreError> {
        let greeting = Greeting::introduction(&Credentials::default()).ready(&self.scripts);
        let answered = timeout(self.target.timeout, line.send_all(greeting.pipeline())).await;
        line.probed(answered.is_ok());
        greeting.heard(&answered.map_err(|_| StoreError::Timeout)??).map(drop)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(OPENING.max(self.target.timeout), work).await.unwrap_or(Err(StoreError::Timeout))
    }
}
