//! Real streams over TLS on loopback: a server with real certificates, and clients that authenticate.

mod support;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use feed::{
    client::{About, Client, State, Times},
    connect::Connector,
    fleet::{Bound, Identity, Pod},
    publisher::Publisher,
    replica::{Refused, Update},
    rows::{Decoded, Kind},
    sealed::{self, SealKey},
    server::{Denied, Server, Settings},
    store::{FileStore, Keeping},
    tls::Certificate,
    wire::{Breaker, BreakerState, Report},
};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use table::Secret;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::support::{keys, offer, offer_in, with_credential};

const NAME: &str = "relay-operator.relay-system.svc";

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A chain and its key for a server of this name.
    fn leaf(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A server on a free port.
struct Running {
    server: Server,
    address: SocketAddr,
    certificate: Certificate,
    task: JoinHandle<()>,
}

fn settings() -> Settings {
    Settings {
        server_id: "operator-0".into(),
        // Three that are missed end a stream: a busy machine must not.
        heartbeat: Duration::from_secs(1),
        jitter: Duration::from_millis(50),
        max_frame: 64 << 10,
        ..Settings::default()
    }
}

/// Tokens are `namespace/pod/uid`, for tests.
async fn identity_of(token: Secret<String>, expires: Option<Duration>) -> Result<Identity, Denied> {
    let parts: Vec<_> = token.expose().split('/').collect();
    let [namespace, name, uid] = parts[..] else { return Err(Denied::Unauthenticated("the token is unknown".into())) };
    let pod = Some(Bound { name: name.to_owned(), uid: uid.to_owned() });
    let expires = expires.map(|left| SystemTime::now() + left);
    Ok(Identity { namespace: namespace.into(), service_account: "relay".into(), pod, expires })
}

async fn serve_on(at: SocketAddr, authority: &Authority, publisher: &Publisher, settings: Settings) -> Running {
    serve_expiring(at, authority, publisher, settings, None).await
}

async fn serve_expiring(
    at: SocketAddr,
    authority: &Authority,
    publisher: &Publisher,
    settings: Settings,
    expires: Option<Duration>,
) -> Running {
    let (chain, key) = authority.leaf(NAME);
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let publisher = publisher.clone();
    let server = Server::new(
        settings,
        move |token| identity_of(token, expires),
        move |_, fleet| {
            if fleet == "default" {
                Ok(publisher.clone())
            } else {
                Err(Denied::Forbidden(format!("no fleet `{fleet}`")))
            }
        },
    );
    let listener = TcpListener::bind(at).await.unwrap();
    let (address, tls) = (listener.local_addr().unwrap(), certificate.server_config().unwrap());
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(listener, tls).await });
    Running { server, address, certificate, task }
}

async fn serve(authority: &Authority, publisher: &Publisher) -> Running {
    serve_on(SocketAddr::from(([127, 0, 0, 1], 0)), authority, publisher, settings()).await
}

/// A client that runs until it is dropped.
struct Plane {
    state: watch::Receiver<State>,
    reports: watch::Sender<Report>,
    applied: Arc<Mutex<Decoded>>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Plane {
    async fn until(&mut self, what: impl Fn(&State) -> bool) -> State {
        let seen = tokio::time::timeout(PATIENCE, self.state.wait_for(|state| what(state))).await;
        seen.unwrap_or_else(|_| panic!("the client stands at other than was waited for")).unwrap().clone()
    }

    async fn has(&mut self, publisher: &Publisher) -> State {
        let root = publisher.current().unwrap().root();
        self.until(|state| state.root == Some(root)).await
    }
}

fn about(pod: usize) -> About {
    let (pod, pod_uid) = (format!("pod-{pod}"), format!("uid-{pod}"));
    let (namespace, fleet, build) = ("apps".into(), "default".into(), "1.0".into());
    About { pod, pod_uid, node: "node".into(), namespace, fleet, build }
}

fn times() -> Times {
    Times { backoff: Duration::from_millis(20), backoff_most: Duration::from_millis(200), ..Times::default() }
}

/// Everything about a client that a test may want otherwise.
struct Wish {
    about: About,
    token: Arc<Mutex<String>>,
    trust: Arc<Mutex<String>>,
    address: Arc<Mutex<SocketAddr>>,
    refused: Vec<String>,
}

impl Wish {
    fn new(pod: usize, server: &Running, authority: &Authority) -> Self {
        Self {
            about: about(pod),
            token: Arc::new(Mutex::new(format!("apps/pod-{pod}/uid-{pod}"))),
            trust: Arc::new(Mutex::new(authority.pem.clone())),
            address: Arc::new(Mutex::new(server.address)),
            refused: Vec::new(),
        }
    }

    fn client(&self) -> (Client, Arc<Mutex<Decoded>>) {
        let (address, trust, token) = (self.address.clone(), self.trust.clone(), self.token.clone());
        let connector = Connector::new(
            NAME,
            move || {
                let address = *address.lock();
                async move { TcpStream::connect(address).await }
            },
            move || -> io::Result<_> { Ok(trust.lock().clone().into_bytes()) },
            move || Ok(Secret::new(token.lock().clone())),
        );
        let (applied, refused) = (Arc::new(Mutex::new(Decoded::default())), self.refused.clone());
        let seen = applied.clone();
        let apply = move |update: Update| {
            let is_bad = |key: &&String| {
                update.table.relay_keys.iter().any(|(id, row)| id.to_string() == **key && row.usable().is_some())
            };
            let refused: Vec<_> = refused.iter().filter(is_bad).map(|key| refusal(key)).collect();
            if !refused.is_empty() {
                return Err(refused);
            }
            *seen.lock() = Decoded { table: update.table, credentials: update.credentials };
            Ok(())
        };
        (Client::new(self.about.clone(), times(), connector.unwrap(), apply), applied)
    }

    fn start(&self) -> Plane {
        let (client, applied) = self.client();
        run(client, applied)
    }
}

fn refusal(key: &str) -> Refused {
    Refused { kind: Kind::RelayKeys, key: key.to_owned(), code: "bad".into(), message: "not usable here".into() }
}

fn run(client: Client, applied: Arc<Mutex<Decoded>>) -> Plane {
    let (state, reports, stop) = (client.state(), client.reports(), CancellationToken::new());
    let task = Some(tokio::spawn(client.run(stop.clone())));
    Plane { state, reports, applied, stop, task }
}

async fn fleet(publisher: &Publisher, what: impl Fn(&[Pod]) -> bool) -> Vec<Pod> {
    let mut changes = publisher.fleet().changes();
    let waiting = async {
        loop {
            changes.borrow_and_update();
            let pods = publisher.fleet().pods();
            if what(&pods) {
                return pods;
            }
            changes.changed().await.unwrap();
        }
    };
    let seen = tokio::time::timeout(PATIENCE, waiting).await;
    seen.unwrap_or_else(|_| panic!("the fleet stands otherwise: {:?}", publisher.fleet().pods()))
}

fn some_keys(changed: u64) -> Decoded {
    with_credential(keys((0..400).map(|name| (name, if name == 3 { changed } else { 0 }))), 1, changed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_gets_the_table_then_what_changes_and_says_so() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    let mut plane = Wish::new(1, &server, &authority).start();
    plane.until(|state| state.server.as_deref() == Some("operator-0")).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let state = plane.has(&publisher).await;
    assert_eq!((state.snapshots, state.deltas), (1, 0));
    assert_eq!(*plane.applied.lock(), some_keys(1));

    offer(&publisher, 2, 2, &some_keys(2));
    let state = plane.has(&publisher).await;
    assert_eq!((state.snapshots, state.deltas), (1, 1));
    assert_eq!(*plane.applied.lock(), some_keys(2));

    let root = publisher.current().unwrap().root();
    let pods = fleet(&publisher, |pods| pods.iter().any(|pod| pod.revision == 2)).await;
    let [pod] = &pods[..] else { panic!("{pods:?}") };
    assert_eq!((pod.name.as_str(), pod.uid.as_str(), pod.root), ("pod-1", "uid-1", Some(root)));
    assert!(pod.refused.is_none() && pod.rejections.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_a_data_plane_cannot_use_is_named_to_the_operator() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    let wish = Wish { refused: vec!["team/key-7".into()], ..Wish::new(1, &server, &authority) };
    offer(&publisher, 1, 1, &some_keys(1));
    let mut plane = wish.start();
    plane.has(&publisher).await;
    let pods = fleet(&publisher, |pods| pods.iter().any(|pod| !pod.rejections.is_empty())).await;
    assert_eq!((pods[0].rejections[0].key.as_str(), pods[0].revision), ("team/key-7", 1));
    assert_eq!(pods[0].root, publisher.current().map(|current| current.root()));
    assert_eq!(plane.applied.lock().table.relay_keys.len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_unusable_here_and_usable_again_is_named_without_a_new_table() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    let unusable = watch::Sender::default();
    let (client, applied) = Wish::new(1, &server, &authority).client();
    offer(&publisher, 7, 1, &some_keys(1));
    let mut plane = run(client.naming(unusable.clone()), applied);
    fleet(&publisher, |pods| pods.iter().any(|pod| pod.revision == 7 && pod.rejections.is_empty())).await;

    let missing = |key: &str| Refused { kind: Kind::Credentials, ..refusal(key) };
    unusable.send_replace(vec![missing("team/key-1")]);
    let named = |pods: &[Pod], keys: &[&str]| {
        let [pod] = pods else { return false };
        pod.rejections.iter().map(|one| one.key.as_str()).eq(keys.iter().copied())
    };
    let pods = fleet(&publisher, |pods| named(pods, &["team/key-1"])).await;
    assert_eq!((pods[0].revision, pods[0].root), (7, publisher.current().map(|current| current.root())));
    plane.until(|state| state.rejections.len() == 1).await;
    unusable.send_replace(vec![missing("team/key-1"), missing("team/key-2")]);
    fleet(&publisher, |pods| named(pods, &["team/key-1", "team/key-2"])).await;

    // A server that has not heard of it is told with the first answer.
    server.server.shut_down(Duration::ZERO).await;
    server.task.await.unwrap();
    let _server = serve_on(server.address, &authority, &publisher, settings()).await;
    fleet(&publisher, |pods| pods.len() == 1 && named(pods, &["team/key-1", "team/key-2"])).await;

    unusable.send_replace(Vec::new());
    fleet(&publisher, |pods| named(pods, &[])).await;
    assert_eq!(plane.until(|state| state.rejections.is_empty()).await.deltas, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_reach_the_operator() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    let plane = Wish::new(1, &server, &authority).start();
    let breaker =
        Breaker { host_key: "team/a".into(), state: BreakerState::Open.into(), reason: "auth".into(), until_ms: 9 };
    let report = Report { breakers: vec![breaker], in_flight: 3, draining: true };
    plane.reports.send_replace(report.clone());
    fleet(&publisher, |pods| pods.iter().any(|pod| pod.report == report)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_sends_no_row_to_who_has_the_table() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let mut plane = Wish::new(1, &server, &authority).start();
    let before = plane.has(&publisher).await;
    assert!(before.snapshot_rows > 400);

    server.server.shut_down(Duration::from_secs(5)).await;
    server.task.await.unwrap();
    plane.until(|state| state.server.is_none()).await;
    let again = Publisher::new();
    offer(&again, 1, 1, &some_keys(1));
    let _server = serve_on(server.address, &authority, &again, settings()).await;
    let after = plane.until(|state| state.snapshots == 2).await;
    assert_eq!(after.snapshot_rows, before.snapshot_rows);
    fleet(&again, |pods| pods.iter().any(|pod| pod.revision == 1)).await;

    // What differs after another restart comes alone.
    offer(&again, 2, 2, &some_keys(2));
    let state = plane.has(&again).await;
    assert_eq!(state.deltas, 1);
    assert_eq!(*plane.applied.lock(), some_keys(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_or_says_it_is_another_is_refused() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let cases = [
        ("nonsense", "default", "the token is unknown"),
        ("apps/pod-2/uid-1", "default", "of pod `pod-2`"),
        ("apps/pod-1/uid-2", "default", "of pod UID `uid-2`"),
        ("other/pod-1/uid-1", "default", "of namespace `other`"),
        ("apps/pod-1/uid-1", "secret", "no fleet `secret`"),
    ];
    for (token, fleet, words) in cases {
        let mut wish = Wish::new(1, &server, &authority);
        wish.about.fleet = fleet.into();
        *wish.token.lock() = token.to_owned();
        let mut plane = wish.start();
        let state = plane.until(|state| state.trouble.is_some()).await;
        assert!(state.trouble.as_ref().unwrap().contains(words), "{state:?}");
        assert_eq!(state.root, None);

        // The token is read anew.
        *wish.token.lock() = "apps/pod-1/uid-1".into();
        if fleet == "default" {
            plane.has(&publisher).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trust_and_certificate_can_be_replaced_while_both_run() {
    let (old, new, publisher) = (Authority::new("old"), Authority::new("new"), Publisher::new());
    let server = serve(&old, &publisher).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let wish = Wish::new(1, &server, &old);
    let mut plane = wish.start();
    plane.has(&publisher).await;

    let (chain, key) = new.leaf(NAME);
    server.certificate.replace(chain.as_bytes(), key.as_bytes()).unwrap();
    assert!(server.certificate.replace(chain.as_bytes(), old.leaf(NAME).1.as_bytes()).is_err());
    server.server.rebalance(1000);
    let state = plane.until(|state| state.server.is_none() && state.trouble.is_some()).await;
    assert!(state.trouble.as_ref().unwrap().contains("TLS"), "{state:?}");
    *wish.trust.lock() = format!("{}{}", old.pem, new.pem);
    plane.until(|state| state.server.is_some() && state.streams == 2).await;

    // A name that the certificate is not for.
    let (chain, key) = new.leaf("another.name");
    server.certificate.replace(chain.as_bytes(), key.as_bytes()).unwrap();
    let mut other = Wish { trust: wish.trust.clone(), ..Wish::new(2, &server, &old) }.start();
    assert!(other.until(|state| state.trouble.is_some()).await.trouble.unwrap().contains("TLS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_asked_to_goes_to_another_server_without_a_row() {
    let (authority, one, two) = (Authority::new("one"), Publisher::new(), Publisher::new());
    offer(&one, 1, 1, &some_keys(1));
    offer(&two, 8, 1, &some_keys(1));
    let first = serve(&authority, &one).await;
    let second = serve_on(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        &authority,
        &two,
        Settings { server_id: "operator-1".into(), ..settings() },
    )
    .await;
    let wish = Wish::new(1, &first, &authority);
    let mut plane = wish.start();
    let before = plane.has(&one).await;
    *wish.address.lock() = second.address;
    first.server.rebalance(1000);
    let after = plane.until(|state| state.server.as_deref() == Some("operator-1") && state.snapshots == 2).await;
    assert_eq!(after.snapshot_rows, before.snapshot_rows);
    assert_eq!(after.trouble, None);
    fleet(&one, <[Pod]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_shown_anew_before() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    offer(&publisher, 1, 1, &some_keys(1));
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = serve_expiring(at, &authority, &publisher, settings(), Some(Duration::from_secs(3))).await;
    let mut plane = Wish::new(1, &server, &authority).start();
    let state = plane.until(|state| state.streams >= 3 && state.server.is_some()).await;
    assert_eq!(state.trouble, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_given_up() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    offer(&publisher, 1, 1, &some_keys(1));
    let server = serve(&authority, &publisher).await;
    // A stream of somebody who says Hello and nothing more, and reads nothing.
    let hello = feed::wire::Hello {
        namespace: "apps".into(),
        fleet: "default".into(),
        pod_uid: "u".into(),
        schema: feed::schema::SCHEMA,
        ..Default::default()
    };
    let identity = Identity { namespace: "apps".into(), ..Identity::default() };
    let inbound = futures::stream::StreamExt::chain(
        futures::stream::iter([Ok(feed::wire::ClientMessage::from(feed::wire::FromClient::Hello(hello)))]),
        futures::stream::pending(),
    );
    let _answers = server.server.attach(identity, inbound);
    fleet(&publisher, |pods| pods.len() == 1).await;
    fleet(&publisher, <[Pod]>::is_empty).await;
}

/// Passes bytes between clients and a server until it is told to hold them.
async fn holding_proxy(to: SocketAddr, held: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut held = held.clone();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
                    _ = held.wait_for(|held| *held) => {}
                }
                // Both connections stay open, and nothing passes.
                let _ = held.wait_for(|held| !held).await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_heard_any_more_is_left_and_found_again() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    offer(&publisher, 1, 1, &some_keys(1));
    let server = serve(&authority, &publisher).await;
    let hold = watch::Sender::new(false);
    let wish = Wish::new(1, &server, &authority);
    *wish.address.lock() = holding_proxy(server.address, hold.subscribe()).await;
    let mut plane = wish.start();
    plane.has(&publisher).await;
    hold.send_replace(true);
    offer_in("epoch", &publisher, 2, 2, true, &some_keys(2));
    let state = plane.until(|state| state.trouble.is_some()).await;
    assert!(state.trouble.as_ref().unwrap().contains("nothing was heard"), "{state:?}");
    assert_eq!(*plane.applied.lock(), some_keys(1), "what was in effect stays");
    hold.send_replace(false);
    plane.has(&publisher).await;
    assert_eq!(*plane.applied.lock(), some_keys(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_restarts_from_its_sealed_copy_while_no_operator_is_there() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let directory = tempfile::tempdir().unwrap();
    let (store, key) = (FileStore::new(directory.path().join("table")), SealKey::new(&[9; 32]).unwrap());
    let (writes, file) = (Arc::new(AtomicUsize::new(0)), store.clone());
    let counted = writes.clone();
    let keeping = Keeping::new(key.clone(), move |copy: Bytes| {
        counted.fetch_add(1, Ordering::SeqCst);
        file.save(&copy).unwrap();
        Box::pin(async {})
    });

    let wish = Wish::new(1, &server, &authority);
    let (client, applied) = wish.client();
    let mut plane = run(client.keeping(keeping), applied);
    plane.has(&publisher).await;
    for revision in 2..10 {
        offer(&publisher, revision, revision, &some_keys(revision));
        plane.has(&publisher).await;
    }
    plane.stop.cancel();
    plane.task.take().unwrap().await.unwrap();
    assert!(writes.load(Ordering::SeqCst) <= 2, "at once, and at the end what came since");
    server.server.shut_down(Duration::ZERO).await;
    server.task.await.unwrap();

    let copy = store.load().unwrap().unwrap();
    let (newest, wrong) = sealed::newest([copy], &key);
    assert_eq!(wrong, []);
    let (header, body) = newest.unwrap();
    let (mut client, applied) = wish.client();
    client.restore(header, body).unwrap();
    let mut plane = run(client, applied);
    let state = plane.until(|state| state.root.is_some()).await;
    assert!(state.restored && state.confirmed.is_some() && state.server.is_none());
    assert_eq!(*plane.applied.lock(), some_keys(9));

    let _server = serve_on(server.address, &authority, &publisher, settings()).await;
    let state = plane.until(|state| !state.restored).await;
    assert_eq!(state.snapshot_rows, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_something_away_is_sealed_at_once() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let server = serve(&authority, &publisher).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let key = SealKey::new(&[9; 32]).unwrap();
    let (copies, mut written) = tokio::sync::mpsc::unbounded_channel();
    let keeping = Keeping::new(key.clone(), move |copy: Bytes| {
        copies.send(copy.to_vec()).unwrap();
        Box::pin(async {})
    });
    let keeping = Keeping { every: 10 * PATIENCE, ..keeping };
    let (client, applied) = Wish::new(1, &server, &authority).client();
    let mut plane = run(client.keeping(keeping), applied);
    plane.has(&publisher).await;
    written.recv().await.unwrap();
    offer(&publisher, 2, 2, &some_keys(2));
    plane.has(&publisher).await;
    offer_in("epoch", &publisher, 3, 3, true, &some_keys(3));
    plane.has(&publisher).await;
    let copy = tokio::time::timeout(PATIENCE, written.recv()).await.expect("a copy is written now").unwrap();
    let (header, _) = sealed::newest([copy], &key).0.unwrap();
    assert_eq!(header.source_vector["relaykeys"], 3, "the first change waited, and went with what must not");

    // Whoever was away may have missed that something was taken away.
    server.server.shut_down(Duration::ZERO).await;
    server.task.await.unwrap();
    offer(&publisher, 4, 4, &some_keys(4));
    let _server = serve_on(server.address, &authority, &publisher, settings()).await;
    plane.has(&publisher).await;
    let copy = tokio::time::timeout(PATIENCE, written.recv()).await.expect("a copy is written now").unwrap();
    let (header, _) = sealed::newest([copy], &key).0.unwrap();
    assert_eq!(header.source_vector["relaykeys"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_data_planes_get_the_table_and_each_change() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    // Many clients and their server share this machine with other tests: heartbeats must not be missed for that.
    let settings = Settings { heartbeat: Duration::from_secs(10), ..settings() };
    let server = serve_on(SocketAddr::from(([127, 0, 0, 1], 0)), &authority, &publisher, settings).await;
    offer(&publisher, 1, 1, &some_keys(1));
    let mut planes: Vec<_> = (0..200).map(|pod| Wish::new(pod, &server, &authority).start()).collect();
    fleet(&publisher, |pods| pods.iter().filter(|pod| pod.revision == 1).count() == 200).await;
    for revision in 2..5 {
        offer(&publisher, revision, revision, &some_keys(revision));
        fleet(&publisher, |pods| pods.iter().filter(|pod| pod.revision == revision).count() == 200).await;
    }
    for plane in &mut planes {
        plane.has(&publisher).await;
        assert_eq!(*plane.applied.lock(), some_keys(4));
    }
    drop(planes);
    fleet(&publisher, <[Pod]>::is_empty).await;
    assert_eq!(publisher.fleet().streams(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_data_planes_of_one_server_answer_reaches_another() {
    let (authority, publisher) = (Authority::new("one"), Publisher::new());
    let follower = serve(&authority, &publisher).await;
    let (chain, key) = authority.leaf(NAME);
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let refusals = watch::Sender::new(0);
    let (turned_away, mut refusals) = (refusals.clone(), refusals.subscribe());
    let leader = Server::gathering(
        settings(),
        |token| identity_of(token, None),
        |_, fleet| Err(Denied::Forbidden(format!("no fleet `{fleet}`"))),
        move |token| {
            let turned_away = turned_away.clone();
            async move {
                if identity_of(token, None).await?.namespace == "relay-system" {
                    return Ok(());
                }
                turned_away.send_modify(|count| *count += 1);
                Err(Denied::Forbidden("only operators have news".into()))
            }
        },
    );
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let (address, tls, serving) =
        (listener.local_addr().unwrap(), certificate.server_config().unwrap(), leader.clone());
    let task = tokio::spawn(async move { serving.serve(listener, tls).await });

    offer(&publisher, 1, 1, &some_keys(1));
    let mut plane = Wish::new(1, &follower, &authority).start();
    plane.has(&publisher).await;
    let (token, trust) = (Arc::new(Mutex::new("apps/pod-1/uid-1".to_owned())), authority.pem.clone());
    let shown = token.clone();
    let connector = Connector::new(
        NAME,
        move || TcpStream::connect(address),
        move || Ok(trust.clone().into_bytes()),
        move || Ok(Secret::new(shown.lock().clone())),
    );
    let served: BTreeMap<_, _> = [("default".to_owned(), publisher.clone())].into();
    let (stop, (serving, fleets)) = (CancellationToken::new(), watch::channel(served.clone()));
    let telling = {
        let (stop, connector) = (stop.clone(), connector.unwrap());
        tokio::spawn(async move { feed::gather::follow("operator-0", fleets, &connector, &stop).await })
    };
    // A data plane's token is no operator's: nothing is taken until the right one is shown.
    let mut changes = leader.gathered().changes();
    tokio::time::timeout(PATIENCE, refusals.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    assert_eq!(leader.gathered().pods(Vec::new()), []);
    *token.lock() = "relay-system/operator-0/uid".into();
    let told = async |what: &dyn Fn(&[Pod]) -> bool, changes: &mut watch::Receiver<u64>| {
        let waiting = async {
            loop {
                changes.borrow_and_update();
                let pods: Vec<Pod> = leader.gathered().pods(Vec::new()).into_iter().map(|(_, pod)| pod).collect();
                if what(&pods) {
                    return pods;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("news arrive")
    };
    let pods = told(&|pods| pods.iter().any(|pod| pod.revision == 1), &mut changes).await;
    assert_eq!(pods, publisher.fleet().pods());
    offer(&publisher, 2, 2, &some_keys(2));
    told(&|pods| pods.iter().any(|pod| pod.revision == 2), &mut changes).await;
    drop(plane);
    told(&|pods| pods.is_empty(), &mut changes).await;

    let _plane = Wish::new(2, &follower, &authority).start();
    told(&|pods| pods.len() == 1, &mut changes).await;
    serving.send_replace(BTreeMap::new());
    told(&|pods| pods.is_empty(), &mut changes).await;
    serving.send_replace(served);
    told(&|pods| pods.len() == 1, &mut changes).await;
    stop.cancel();
    telling.await.unwrap();
    // What a server said goes with its stream.
    told(&|pods| pods.is_empty(), &mut changes).await;
    leader.shut_down(Duration::ZERO).await;
    task.await.unwrap();
}
