//! Asks the data plane on this machine whether it is ready, for a kubelet, which cannot reach a pod's loopback but can run
//! a program beside it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of an answer that are read.
const MOST: usize = 4 << 10;

/// What is asked, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Probe {
    /// Where the admin port of the data plane is
    #[arg(long, env = "RELAY_ADMIN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin: SocketAddr,
}

impl Probe {
    /// What the data plane says: that it is ready, or else why it is not. Takes no longer than three seconds.
    pub async fn ask(&self) -> Result<String, String> {
        let place = reachable(self.admin);
        match tokio::time::timeout(PATIENCE, readiness(place)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer from {place} within {} s", PATIENCE.as_secs())),
        }
    }
}

/// A server that listens on all addresses is asked at loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let loopback = match admin.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    SocketAddr::new(loopback, admin.port())
}

async fn readiness(place: SocketAddr) -> Result<String, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {place}: {error}");
    let stream = TcpStream::connect(place).await.map_err(|error| failed("cannot connect to", &error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed("cannot speak with", &error))?;
    let request = Request::get("/readyz").header(header::HOST, place.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed("cannot ask", &error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| failed("no answer from", &error))?;
        let status = answer.status();
        let said = Limited::new(answer.into_body(), MOST).collect().await;
        let said = said.map_err(|error| failed("no whole answer from", &error))?.to_bytes();
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    };
    tokio::pin!(asked);
    let answered: Result<_, String> = tokio::select! {
        answered = &mut asked => answered,
        // It ends once the answer was read, or breaks, which the answer tells of.
        _ = connection => asked.await,
    };
    match answered? {
        (StatusCode::OK, said) => Ok(said),
        (StatusCode::SERVICE_UNAVAILABLE, said) => Err(said),
        (status, _) => Err(format!("{place} answers with {status}: it is no admin port of a data plane")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_at_loopback() {
        for (admin, place) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("10.0.0.7:8081", "10.0.0.7:8081"),
        ] {
            assert_eq!(reachable(admin.parse().unwrap()).to_string(), place);
        }
    }
}
