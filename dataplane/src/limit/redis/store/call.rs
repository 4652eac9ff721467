//! One call: the command, and where it is sent, following the cluster's redirections. Sends a command again only where
//! the server said that it did not execute it.

use std::{sync::Arc, time::Duration};

use redis_client::{Cmd, Value, pipe};

use super::{
    Inner,
    error::StoreError,
    line::Line,
    reply::Reply,
    target::{Address, Mode},
};
use crate::limit::redis::script::Script;

/// How often a command is sent before we say that its keys are on the move.
const SENDINGS: usize = 8;
/// How long a cluster gets to bring keys of one call together.
const PAUSE: Duration = Duration::from_millis(3);

/// What is called.
#[derive(Clone, Copy)]
pub(super) enum Call<'a, K> {
    Script { script: &'a Script, keys: &'a [K], arg: &'a [u8] },
    SetIfAbsent { key: &'a str, value: &'a str, ttl: Duration },
    ReadHash { key: &'a str },
}

impl<K: AsRef<str>> Call<'_, K> {
    fn command(&self) -> Cmd {
        match self {
            Self::Script { script, keys, arg } => run("EVALSHA", &script.sha, keys, arg),
            Self::SetIfAbsent { key, value, ttl } => {
                let mut command = Cmd::new();
                command.arg("SET").arg(key).arg(value).arg("NX").arg("PX").arg(ttl.as_millis().max(1) as u64);
                command
            }
            Self::ReadHash { key } => {
                let mut command = Cmd::new();
                command.arg("HGETALL").arg(key);
                command
            }
        }
    }

    /// The command for a server that does not have the script, which has it afterwards.
    fn spelled_out(&self) -> Option<Cmd> {
        match self {
            Self::Script { script, keys, arg } => Some(run("EVAL", &script.text, keys, arg)),
            Self::SetIfAbsent { .. } | Self::ReadHash { .. } => None,
        }
    }
}

fn run(how: &str, script: &str, keys: &[impl AsRef<str>], arg: &[u8]) -> Cmd {
    let length = how.len() + script.len() + keys.iter().map(|key| key.as_ref().len()).sum::<usize>() + arg.len() + 8;
    let mut command = Cmd::with_capacity(keys.len() + 4, length);
    command.arg(how).arg(script).arg(keys.len());
    for key in keys {
        command.arg(key.as_ref());
    }
    command.arg(arg);
    command
}

impl Inner {
    /// Calls the node that serves `key`.
    pub(super) async fn call<K: AsRef<str> + Sync>(&self, key: &str, call: Call<'_, K>) -> Result<Value, StoreError> {
        let mut line = self.layout.load().line(key)?.clone();
        let (mut command, mut is_spelled_out, mut asking) = (call.command(), false, false);
        for _ in 0..SENDINGS {
            // What is rare is kept apart, or every call would be as large as opening a connection.
            let value = if asking { Box::pin(ask(&line, &command)).await? } else { line.send(&command).await? };
            match Reply::read(value, line.address()) {
                Reply::Value(value) => return Ok(value),
                Reply::Failed(error) => return Err(error),
                Reply::NoScript => {
                    let spelled_out = call.spelled_out().filter(|_| !is_spelled_out);
                    command = spelled_out.ok_or_else(|| StoreError::Refused("NOSCRIPT".to_owned()))?;
                    is_spelled_out = true;
                }
                Reply::Moved(slot, address) => (line, asking) = (Box::pin(self.follow(slot, &address)).await?, false),
                Reply::Ask(address) => (line, asking) = (Box::pin(self.line_to(&address)).await?, true),
                Reply::TryAgain => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(StoreError::Busy("the keys are being moved".to_owned()))
    }

    /// The line to a slot's new master, to which the slot's next calls go at once.
    async fn follow(&self, slot: u16, address: &Address) -> Result<Arc<Line>, StoreError> {
        let line = self.line_to(address).await?;
        self.layout.rcu(|layout| layout.moved(slot, &line));
        Ok(line)
    }

    async fn line_to(&self, address: &Address) -> Result<Arc<Line>, StoreError> {
        if self.opener.target.mode != Mode::Cluster {
            return Err(StoreError::Refused(format!("the server is part of a cluster, and sent us to {address}")));
        }
        let open = || self.layout.load().line_to(address).cloned();
        if let Some(line) = open() {
            return Ok(line);
        }
        let _opening = self.opening.lock().await;
        if let Some(line) = open() {
            return Ok(line);
        }
        let line = self.opener.open(address, None).await?;
        self.layout.rcu(|layout| layout.with(&line));
        Ok(line)
    }
}

/// Sends a command about a slot that the node is about to get.
async fn ask(line: &Line, command: &Cmd) -> Result<Value, StoreError> {
    let mut both = pipe();
    both.cmd("ASKING").add_command(command.clone());
    let answers = line.send_all(&both).await?;
    answers.into_iter().nth(1).ok_or_else(|| StoreError::Refused("ASKING was not answered".to_owned()))
}
