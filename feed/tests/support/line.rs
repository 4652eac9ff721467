//! A stream in process: a session and a replica without a connection between them.

use std::{collections::VecDeque, sync::Arc};

use feed::{
    publisher::{Published, Publisher},
    replica::{Refusal, Refused, Replica, Update},
    session::{Plan, Session},
    wire::{Codec, FromClient, FromServer, Hello, ServerMessage},
};

/// Takes everything.
pub(crate) fn content(_: Update) -> Result<(), Vec<Refused>> {
    Ok(())
}

/// A stream between a publisher and a replica, message by message.
pub(crate) struct Line {
    pub(crate) publisher: Publisher,
    pub(crate) session: Session,
    pub(crate) max_frame: usize,
    /// Messages that were sent and not yet delivered.
    pub(crate) on_the_way: VecDeque<ServerMessage>,
}

impl Line {
    pub(crate) fn open(publisher: &Publisher, replica: &mut Replica, zstd: bool, max_frame: usize) -> Self {
        let codecs = if zstd { vec![Codec::Zstd.into()] } else { Vec::new() };
        let hello = Hello { resume: replica.resume(), codecs, ..Hello::default() };
        let (publisher, session) = (publisher.clone(), Session::open(&hello));
        Self { publisher, session, max_frame, on_the_way: Default::default() }
    }

    /// Sends what the session plans; says whether that was anything.
    pub(crate) fn send(&mut self) -> bool {
        let Some(current) = self.publisher.current() else { return false };
        match self.plan(&current) {
            Plan::Wait | Plan::Ahead(_) => return false,
            Plan::Delta(message) => self.on_the_way.push_back(message),
            Plan::Snapshot { held, urgent } => {
                let messages = current.snapshot(held.as_ref(), urgent, self.session.reads_zstd(), self.max_frame);
                self.on_the_way.extend(messages);
            }
        }
        self.session.sent(current);
        true
    }

    pub(crate) fn plan(&mut self, current: &Arc<Published>) -> Plan {
        let (publisher, zstd, max_frame) = (self.publisher.clone(), self.session.reads_zstd(), self.max_frame);
        self.session.plan(current, |from, to| publisher.ops(from, to, zstd, max_frame))
    }

    /// Delivers one message and its answer.
    pub(crate) fn deliver(
        &mut self,
        replica: &mut Replica,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Option<FromClient> {
        let message = self.on_the_way.pop_front()?;
        let answer = receive(replica, message, apply)?;
        match &answer {
            FromClient::Ack(ack) => drop(self.session.on_ack(ack)),
            FromClient::Nack(nack) => drop(self.session.on_nack(nack).unwrap()),
            other => panic!("{other:?} is no answer"),
        }
        Some(answer)
    }

    /// Delivers everything until nothing more is sent; gives the answers.
    pub(crate) fn settle(
        &mut self,
        replica: &mut Replica,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Vec<FromClient> {
        let mut answers = Vec::new();
        loop {
            self.send();
            if self.on_the_way.is_empty() {
                return answers;
            }
            answers.extend(self.deliver(replica, apply));
        }
    }
}

/// What a replica answers to a message.
pub(crate) fn receive(
    replica: &mut Replica,
    message: ServerMessage,
    apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
) -> Option<FromClient> {
    let answered = match message.kind.unwrap() {
        FromServer::Begin(begin) => replica.begin(begin).map(|()| None),
        FromServer::Chunk(chunk) => replica.chunk(chunk).map(|()| None),
        FromServer::End(end) => match replica.end(end) {
            Ok(Some(offer)) => replica.settle(offer, apply).map(Some),
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        },
        FromServer::Delta(delta) => replica.delta(delta).and_then(|offer| replica.settle(offer, apply)).map(Some),
        FromServer::Ping(ping) => {
            replica.ping(&ping);
            Ok(None)
        }
        FromServer::Welcome(_) | FromServer::Rebalance(_) => Ok(None),
    };
    answered.unwrap_or_else(|refusal: Refusal| Some(FromClient::Nack(replica.nack(&refusal))))
}
