//! A TCP proxy before a Redis server that counts what clients send, and that stalls, cuts and loses on demand.

mod commands;
mod parser;
mod pump;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
};

pub use commands::Sent;

use pump::{Fault, Pipe};

/// A proxy on a free port of 127.0.0.1. It reads plain Redis protocol: it cannot stand before a port that speaks TLS.
pub struct CountingProxy {
    address: SocketAddr,
    upstream: Arc<OnceLock<SocketAddr>>,
    pipe: Arc<Pipe>,
    acceptor: Option<JoinHandle<()>>,
}

impl CountingProxy {
    /// Starts a proxy to the server at `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let proxy = Self::start_unaimed();
        proxy.aim(upstream);
        proxy
    }

    /// Starts a proxy that learns its server later. Nobody may connect before.
    pub(crate) fn start_unaimed() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("some port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let upstream = Arc::new(OnceLock::new());
        let pipe = Arc::new(Pipe::default());
        let acceptor = thread::spawn({
            let (upstream, pipe) = (Arc::clone(&upstream), Arc::clone(&pipe));
            move || accept(&listener, &upstream, &pipe)
        });
        Self { address, upstream, pipe, acceptor: Some(acceptor) }
    }

    pub(crate) fn aim(&self, upstream: SocketAddr) {
        self.upstream.set(upstream).expect("a proxy is aimed once");
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients have sent, in the order in which it arrived on each connection.
    pub fn commands(&self) -> Vec<Sent> {
        self.pipe.state().sent.clone()
    }

    /// How many commands of each name clients have sent. Names are in capitals: `EVALSHA`, `SCRIPT LOAD`.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        count(self.pipe.state().sent.iter().map(|sent| &sent.name))
    }

    /// How many calls of each script clients have sent, by the script's SHA-1 in small hexadecimal digits.
    pub fn scripts(&self) -> BTreeMap<String, u64> {
        count(self.pipe.state().sent.iter().filter_map(|sent| sent.sha.as_ref()))
    }

    /// Forgets what was sent so far.
    pub fn forget(&self) {
        self.pipe.state().sent.clear();
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.pipe.state().live.len()
    }

    /// Holds back everything in both directions until [`CountingProxy::resume`]. Connecting still works.
    pub fn stall(&self) {
        self.pipe.set(Fault::Stall);
    }

    /// Passes commands on and throws replies away until [`CountingProxy::resume`].
    pub fn lose_replies(&self) {
        self.pipe.set(Fault::LoseReplies);
    }

    /// Closes all connections, and each new one at once, until [`CountingProxy::resume`].
    pub fn refuse(&self) {
        self.pipe.set(Fault::Refuse);
        self.cut();
    }

    /// Closes all connections. New ones are served.
    pub fn cut(&self) {
        self.pipe.cut(|_| true);
    }

    /// Ends a fault: what was held back flows, and connections that lost a reply are closed.
    pub fn resume(&self) {
        self.pipe.cut(|connection| connection.lost_a_reply);
        self.pipe.set(Fault::None);
    }
}

impl Drop for CountingProxy {
    fn drop(&mut self) {
        self.pipe.close();
        // Wakes the acceptor, which then sees that the proxy is closed.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

fn accept(listener: &TcpListener, upstream: &OnceLock<SocketAddr>, pipe: &Arc<Pipe>) {
    loop {
        let connected = listener.accept().and_then(|(client, _)| {
            let address = upstream.get().ok_or(ErrorKind::NotConnected)?;
            Ok((client, connect(pipe, address)?))
        });
        if pipe.state().closed {
            return;
        }
        // Who finds no server here is closed, as a connection to a port without a server would be.
        if let Ok((client, server)) = connected {
            drop(pipe.join(client, server));
        }
    }
}

fn connect(pipe: &Pipe, upstream: &SocketAddr) -> io::Result<TcpStream> {
    match pipe.state().fault {
        Fault::Refuse => Err(ErrorKind::ConnectionRefused.into()),
        Fault::None | Fault::Stall | Fault::LoseReplies => TcpStream::connect(upstream),
    }
}

fn count<'a>(words: impl Iterator<Item = &'a String>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.clone()).or_default() += 1;
    }
    counts
}
