//! What the Service before the operators is in a cluster: one address, behind which each connection goes to a replica that
//! takes it.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A Service. Dropped, it takes no more connections; those that are open stay.
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    endpoints: Arc<Mutex<Vec<SocketAddr>>>,
    accepting: JoinHandle<()>,
}

impl Service {
    /// A Service with no endpoints.
    pub(crate) async fn start() -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        let endpoints = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(socket, endpoints.clone()));
        Self { address, endpoints, accepting }
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to these, any of which is chosen; who does not listen is passed over.
    pub fn lead_to(&self, endpoints: &[SocketAddr]) {
        *self.endpoints.lock() = endpoints.to_vec();
    }

    /// Leads new connections to one more.
    pub(crate) fn add(&self, endpoint: SocketAddr) {
        let mut endpoints = self.endpoints.lock();
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(socket: TcpListener, endpoints: Arc<Mutex<Vec<SocketAddr>>>) {
    while let Ok((mut client, _)) = socket.accept().await {
        let endpoints = shuffled(endpoints.lock().clone());
        // Ends with the connection, and with the runtime of the test at the latest.
        tokio::spawn(async move {
            for endpoint in endpoints {
                if let Ok(mut server) = TcpStream::connect(endpoint).await {
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    // Whichever end goes, the other one is told by the end of its stream.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                    return;
                }
            }
        });
    }
}

fn shuffled(mut endpoints: Vec<SocketAddr>) -> Vec<SocketAddr> {
    // Each `RandomState` has keys of its own: randomness without a dependency.
    let random = RandomState::new();
    endpoints.sort_by_cached_key(|endpoint| random.hash_one(endpoint));
    endpoints
}
