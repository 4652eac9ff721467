//! What is said first on a connection, all in one round trip: who we are, which database, and which scripts we shall call.

use redis_client::{Cmd, Pipeline, Value, cmd, pipe};
use table::Secret;

use super::{error::StoreError, line::Seat, reply};
use crate::limit::redis::script::Script;

/// Who we are.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret<String>>,
    pub(super) database: i64,
}

/// Commands of one round trip, and what their answers mean.
pub(super) struct Greeting {
    pipeline: Pipeline,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Has to succeed; the word is for errors.
    Must(&'static str),
    /// May be refused.
    May,
    /// Tells the connection's id.
    Id,
    /// Tells whether the server takes writes.
    Role,
}

impl Greeting {
    /// Nothing but who we are.
    pub(super) fn introduction(credentials: &Credentials) -> Self {
        let mut greeting = Self { pipeline: pipe(), steps: Vec::new() };
        if let Some(password) = &credentials.password {
            let mut command = cmd("AUTH");
            if let Some(username) = &credentials.username {
                command.arg(username);
            }
            command.arg(password.expose());
            greeting.add(Step::Must("AUTH"), command);
        }
        if credentials.database != 0 {
            let mut command = cmd("SELECT");
            command.arg(credentials.database);
            greeting.add(Step::Must("SELECT"), command);
        }
        greeting
    }

    /// Also names the connection.
    pub(super) fn named(mut self) -> Self {
        self.add(Step::Id, words(&["CLIENT", "ID"]));
        self.add(Step::May, words(&["CLIENT", "SETNAME", "relay"]));
        self
    }

    /// Also asks whether the server lives and takes writes, and loads the scripts.
    pub(super) fn ready(mut self, scripts: &[Script]) -> Self {
        self.add(Step::Must("PING"), words(&["PING"]));
        self.add(Step::Role, words(&["ROLE"]));
        for script in scripts {
            self.add(Step::Must("SCRIPT LOAD"), words(&["SCRIPT", "LOAD", &script.text]));
        }
        self
    }

    pub(super) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Reads the answers; gives the connection's id, where it was asked for and told.
    pub(super) fn heard(&self, answers: &[Value]) -> Result<Option<i64>, StoreError> {
        let mut id = None;
        for (step, answer) in self.steps.iter().zip(answers) {
            match (step, answer) {
                (Step::Id, Value::Int(told)) => id = Some(*told),
                (Step::Role, answer) => writable(answer)?,
                (Step::Must(what), Value::ServerError(error)) => return Err(within(what, reply::failure(error))),
                (Step::Must(_) | Step::May | Step::Id, _) => {}
            }
        }
        Ok(id)
    }

    fn add(&mut self, step: Step, command: Cmd) {
        self.pipeline.add_command(command);
        self.steps.push(step);
    }
}

/// What makes the server close a connection, if it said how it knows it. With both, a server that was started anew and
/// counts from one again closes nobody else's.
pub(super) fn farewell(seat: Seat) -> Option<Cmd> {
    let (id, local) = (seat.id?.to_string(), seat.local.to_string());
    Some(words(&["CLIENT", "KILL", "ID", &id, "ADDR", &local]))
}

fn words(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

fn writable(answer: &Value) -> Result<(), StoreError> {
    match answer {
        // A user who may not ask learns it from the first write.
        Value::ServerError(error) if reply::is_not_permitted(error) => Ok(()),
        Value::ServerError(error) => Err(within("ROLE", reply::failure(error))),
        answer if reply::role(answer) == Some("master") => Ok(()),
        _ => Err(StoreError::ReadOnly),
    }
}

fn within(what: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(words) => StoreError::Refused(format!("{what}: {words}")),
        StoreError::Busy(words) => StoreError::Busy(format!("{what}: {words}")),
        other @ (StoreError::Timeout | StoreError::Lost(_) | StoreError::ReadOnly) => other,
    }
}
