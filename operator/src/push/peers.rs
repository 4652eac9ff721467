//! Other replicas: a follower tells the one that leads what its data planes hold, and the one that leads lets nobody else
//! tell it anything.
//!
//! Where the leader is stands on the Lease; that it is the leader, its certificate says, which the operator's own authority
//! signed; that the follower is of the same operator, a token of the same service account says, for an audience of its own.

use std::{future::pending, io, net::SocketAddr, path::PathBuf, sync::Arc};

use feed::{
    connect::{self, Connector},
    fleet::Identity,
    gather,
    server::Denied,
};
use table::Secret;
use tokio::{net::TcpStream, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{fleets::Fleets, token::Tokens};
use crate::lease::Standing;

/// What tokens must be for that replicas show to each other.
pub const AUDIENCE: &str = "relay-peer.llmrelay.io";

/// How replicas find and trust each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file with the token that this replica shows, for [`AUDIENCE`]; absent: it tells nobody and is told nothing.
    pub token_file: Option<PathBuf>,
    /// Where others reach the push port of this replica; absent: nowhere.
    pub advertise: Option<Advertise>,
}

/// An address for others; without a port it is that of the push port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// The address.
    pub ip: std::net::IpAddr,
    /// The port, where it is another than the one that is listened on.
    pub port: Option<u16>,
}

impl Advertise {
    /// As it stands on the Lease, for a push port that listens on `port`.
    pub fn address(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(port))
    }
}

/// Decides who may tell this replica anything: who shows a token of the same account as its own.
pub(super) async fn admit(tokens: Tokens, file: Option<PathBuf>, shown: Secret<String>) -> Result<(), Denied> {
    let Some(file) = file else {
        return Err(Denied::Unavailable("this replica has no `--peer-token-file` to know its peers by".to_owned()));
    };
    let own = connect::token_file(&file)().map_err(|error| {
        error!(%error, file = %file.display(), "the token of this replica cannot be read: {error}");
        Denied::Unavailable("this replica cannot read its own token".to_owned())
    })?;
    let shown = tokens.identity(&shown).await?;
    let own = tokens.identity(&Secret::new(own.expose().trim().to_owned())).await.map_err(|denied| {
        error!(file = %file.display(), "the token of this replica is not good: {denied}");
        Denied::Unavailable("the token of this replica is not good".to_owned())
    })?;
    is_peer(&own, &shown)
}

fn is_peer(own: &Identity, shown: &Identity) -> Result<(), Denied> {
    let account = |identity: &Identity| format!("{}/{}", identity.namespace, identity.service_account);
    if account(own) == account(shown) {
        return Ok(());
    }
    Err(Denied::Forbidden(format!("service account `{}` is not that of the operator", account(shown))))
}

/// What a follower needs to tell the leader.
pub(super) struct Telling {
    pub(super) token_file: PathBuf,
    /// This process among all candidates for the Lease.
    pub(super) identity: String,
    /// The name that certificates of push ports are good for.
    pub(super) name: String,
    pub(super) fleets: Fleets,
    pub(super) standing: watch::Receiver<Standing>,
    /// Whom to trust, PEM; empty until that is known.
    pub(super) bundle: watch::Receiver<Arc<str>>,
}

impl Telling {
    /// Tells whoever leads, and nobody while this replica does, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let leader = leader(&self.standing.borrow_and_update(), &self.identity);
            let ending = stop.child_token();
            let telling = async {
                match leader {
                    Some(address) => self.tell(address, &ending).await,
                    None => pending().await,
                }
            };
            let (mut standing, identity) = (self.standing.clone(), &self.identity);
            tokio::select! {
                () = stop.cancelled() => return,
                () = telling => {}
                changed = standing.wait_for(|now| self::leader(now, identity) != leader) => if changed.is_err() { return },
            }
        }
    }

    async fn tell(&self, address: SocketAddr, stop: &CancellationToken) {
        let _ = self.bundle.clone().wait_for(|bundle| !bundle.is_empty()).await;
        info!(leader = %address, "tells {address} what the data planes of this replica hold");
        let bundle = self.bundle.clone();
        let trust = move || -> io::Result<Vec<u8>> {
            let bundle = bundle.borrow().clone();
            if bundle.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(bundle.as_bytes().to_vec()) }
        };
        let token = connect::token_file(self.token_file.clone());
        match Connector::new(&self.name, move || TcpStream::connect(address), trust, token) {
            Ok(connector) => gather::follow(&self.identity, self.fleets.served(), &connector, stop).await,
            Err(error) => {
                error!(%error, "the leader cannot be told anything: {error:#}");
                pending().await
            }
        }
    }
}

/// Where the replica is that leads; absent while that is this one, or nobody, or it does not say.
fn leader(standing: &Standing, identity: &str) -> Option<SocketAddr> {
    let is_other = standing.holder.as_deref().is_some_and(|holder| holder != identity);
    standing.holder_address.as_deref().filter(|_| is_other)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(holder: Option<&str>, address: Option<&str>) -> Standing {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Standing { holder: text(holder), holder_address: text(address), ..Standing::default() }
    }

    #[test]
    fn only_another_replica_that_says_where_it_is_is_told_anything() {
        let at = |standing: &Standing| leader(standing, "me").map(|address| address.to_string());
        let address = Some("10.0.0.7:9443");
        assert_eq!(at(&standing(Some("other"), address)).as_deref(), address);
        assert_eq!(at(&standing(Some("me"), address)), None);
        assert_eq!(at(&standing(None, address)), None, "what is left on a Lease that was given back");
        assert_eq!(at(&standing(Some("other"), None)), None);
        assert_eq!(at(&standing(Some("other"), Some("elsewhere"))), None);
    }

    #[test]
    fn a_peer_is_who_has_the_same_account() {
        let identity = |namespace: &str, account: &str| Identity {
            namespace: namespace.to_owned(),
            service_account: account.to_owned(),
            ..Identity::default()
        };
        let own = identity("relay-system", "relay-operator");
        assert_eq!(is_peer(&own, &own), Ok(()));
        for other in [identity("relay-system", "relay-dataplane"), identity("team-a", "relay-operator")] {
            assert!(matches!(is_peer(&own, &other), Err(Denied::Forbidden(_))), "{other:?}");
        }
    }
}
