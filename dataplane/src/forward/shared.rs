//! The way to the shared data planes: one connection pool, and who may vouch for them, read again when it changes.

use std::{fs, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use table::{Http, HttpVersion, ObjectRef, TlsVerification};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::sidecar::SharedPlace,
    upstream::{
        client::Client,
        clients::{self, Clients},
    },
};

/// How often the file with the authorities is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long a connection is kept that nobody uses. A data plane that stops says so with every answer for longer than that by
/// default (`--deregister-delay`), so whoever has not heard it by then has let go of it.
const IDLE: Duration = Duration::from_secs(5);

/// The way to the shared data planes.
pub(crate) struct Shared {
    place: SharedPlace,
    clients: Arc<Clients>,
    /// What the file held at the last look, or why it could not be read.
    found: Mutex<Result<String, String>>,
    client: ArcSwap<Result<Arc<Client>, String>>,
}

impl Shared {
    /// A way that may yet be closed: authorities that cannot be read may be there a moment later.
    pub(crate) fn new(place: SharedPlace, clients: &Arc<Clients>) -> Self {
        let closed = "nobody is named yet who vouches for it".to_owned();
        let (found, client) = (Mutex::new(Err(closed.clone())), ArcSwap::from_pointee(Err(closed)));
        let shared = Self { place, clients: clients.clone(), found, client };
        match &shared.place.ca {
            Some(ca) => shared.look(ca),
            None => shared.client.store(Arc::new(shared.client_of(None))),
        }
        shared
    }

    /// The client of the moment. Errs, in words for whoever runs the pod, where the authorities cannot be read.
    pub(crate) fn client(&self) -> Result<Arc<Client>, String> {
        self.client.load().as_ref().clone()
    }

    /// Looks at the file every two seconds until `stop`.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let Some(ca) = self.place.ca.clone() else { return };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let (shared, ca) = (self.clone(), ca.clone());
            if tokio::task::spawn_blocking(move || shared.look(&ca)).await.is_err() {
                return;
            }
        }
    }

    /// Trusts whom the file names now; where it cannot be used, whom it named before. Requests that are under way keep
    /// their connections.
    fn look(&self, ca: &Path) {
        let read = fs::read_to_string(ca).map_err(|error| error.to_string());
        let mut found = self.found.lock();
        if *found == read {
            return;
        }
        found.clone_from(&read);
        let client = read.and_then(|pem| self.client_of(Some(pem)));
        let client = client.map_err(|reason| format!("--forward-ca (RELAY_FORWARD_CA) {}: {reason}", ca.display()));
        match (&client, &**self.client.load()) {
            (Ok(_), _) => info!(url = self.place.url, "trusting the shared data planes by {}", ca.display()),
            (Err(reason), Ok(_)) => return warn!("{reason}; trusting those whom it named before"),
            (Err(reason), Err(_)) => {
                warn!("{reason}; requests for the shared data planes are refused until it is right")
            }
        }
        self.client.store(Arc::new(client));
    }

    fn client_of(&self, ca: Option<String>) -> Result<Arc<Client>, String> {
        let mut row = clients::row_of(&self.place.url);
        // A connection for each request: an HTTP/2 one that is told to end takes along what was just begun on it.
        row.http = Http { version: HttpVersion::H1, idle_timeout: IDLE, ..row.http };
        if let Some(pem) = ca {
            row.tls.verification = TlsVerification::Custom(pem);
        }
        self.clients.for_host(&ObjectRef::new("", "shared"), &row, None)
    }
}
