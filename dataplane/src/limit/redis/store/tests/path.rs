//! A way to a server on which connections can fall silent: they stay open, and nothing comes through any more.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// The way, which ends when dropped.
pub(super) struct Path {
    pub(super) address: SocketAddr,
    opened: Arc<AtomicUsize>,
    silent: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Path {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let (opened, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let accepting = tokio::spawn(accept(listener, server, opened.clone(), silent.clone()));
        Self { address, opened, silent, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// Lets nothing through any more on connections that are open now.
    pub(super) fn silence_what_is_open(&self) {
        self.silent.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, opened: Arc<AtomicUsize>, silent: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = opened.fetch_add(1, Ordering::SeqCst);
        let Ok(server) = TcpStream::connect(server).await else { continue };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::spawn(carry(from_client, to_server, number, silent.clone()));
        tokio::spawn(carry(from_server, to_client, number, silent.clone()));
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: usize,
    silent: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = from.read(&mut buffer).await {
        let is_silent = number < silent.load(Ordering::SeqCst);
        if length == 0 || (!is_silent && to.write_all(&buffer[..length]).await.is_err()) {
            return;
        }
    }
}
