//! Callers that stream or do not, some of whom leave before their answer has ended.

use std::{
    io::{ErrorKind, Read},
    net::SocketAddr,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{fleet::BEARER, server::open};

/// What one caller asks, again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) model: &'static str,
    pub(crate) stream: bool,
    pub(crate) max_tokens: u64,
    /// Decides how much is answered; absent: as much as was asked for.
    pub(crate) seed: Option<u64>,
    /// After this time the caller leaves.
    pub(crate) leaves_after: Option<Duration>,
}

/// How a call ended, as the caller saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) model: &'static str,
    /// Absent: the caller left before there was one.
    pub(crate) status: Option<u16>,
    pub(crate) left: bool,
    /// When, in microseconds since 1970.
    pub(crate) at: u64,
}

impl Call {
    fn body(&self) -> String {
        let seed = self.seed.map(|seed| format!(r#","seed":{seed}"#)).unwrap_or_default();
        format!(
            r#"{{"model":"{}","stream":{},"max_tokens":{}{seed},"messages":[{{"role":"user","content":"hello"}}]}}"#,
            self.model, self.stream, self.max_tokens
        )
    }

    /// Sends it, and reads until the answer ends or the caller leaves.
    pub(crate) fn make(&self, address: SocketAddr) -> Seen {
        let mut stream = open(address, "/v1/chat/completions", &[BEARER], &self.body());
        if self.leaves_after.is_some() {
            stream.set_read_timeout(self.leaves_after).expect("a timeout can be set");
        }
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        let left = loop {
            match stream.read(&mut bytes) {
                Ok(0) => break false,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break true,
                Err(error) => panic!("the answer breaks: {error} after {text:?}"),
            }
        };
        assert!(!left || self.leaves_after.is_some(), "no answer in time: {text:?}");
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_micros();
        Seen { model: self.model, status, left, at: u64::try_from(at).expect("microseconds fit") }
    }
}

/// Runs so many callers at once, each with its calls.
pub(crate) fn at_once(callers: usize, calls: impl Fn(usize) -> Vec<(SocketAddr, Call)> + Sync) -> Vec<Seen> {
    thread::scope(|scope| {
        let calls = &calls;
        let one = |caller| move || calls(caller).into_iter().map(|(address, call)| call.make(address)).collect();
        let running: Vec<_> = (0..callers).map(|caller| scope.spawn::<_, Vec<_>>(one(caller))).collect();
        running.into_iter().flat_map(|caller| caller.join().expect("a caller ends")).collect()
    })
}
