use std::{
    future::Future,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use table::{Auth, ClientCertificate, Host, Http, HttpVersion, ObjectRef, Timeouts, Tls, TlsVerification, WireShape};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    client::Client,
    clients::Clients,
    error::SendError,
    resolver::{Resolve, Resolved},
};

/// Answers from a list, one after the other; the last one for ever.
struct Script {
    answers: Vec<&'static str>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { answers: answers.to_vec(), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Script {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        let addresses = self.answers[turn].split(' ').map(|text| text.parse().unwrap()).collect();
        Box::pin(async move { Ok(Resolved { addresses, valid_for: Duration::from_secs(60) }) })
    }
}

/// A resolver that never answers.
struct Silent;

impl Resolve for Silent {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        Box::pin(std::future::pending())
    }
}

fn host(base_url: String) -> Host {
    Host {
        shape: WireShape::OpenaiChat,
        base_url,
        auth: Auth::Bearer,
        allow_private_addresses: true,
        headers: table::HeaderRules::default(),
        tls: Tls::default(),
        dialect: table::Dialect::default(),
        model_patterns: vec![],
        timeouts: Timeouts::default(),
        http: Http::default(),
        breaker: table::Breaker::default(),
        key_selection: table::KeySelection::default(),
        health_check: table::HealthCheck::default(),
        limits: table::ProviderLimits::default(),
        suspended: false,
        allowed: table::NamespaceGrant::default(),
    }
}

fn client_with(host: &Host, resolver: Arc<dyn Resolve>) -> Arc<Client> {
    Clients::new(resolver).for_host(&ObjectRef::new("a", "h"), host, None).unwrap()
}

fn client(host: &Host) -> Arc<Client> {
    client_with(host, Script::new(&["127.0.0.1"]))
}

fn request(client: &Client) -> Request<Full<Bytes>> {
    Request::post(client.uri("/chat/completions").unwrap()).body(Full::new(Bytes::from_static(b"{}"))).unwrap()
}

async fn text(client: &Client) -> Result<String, SendError> {
    let answer = client.send(request(client)).await?;
    let whole = answer.into_body().collect().await.expect("the body is whole").to_bytes();
    Ok(String::from_utf8(whole.to_vec()).unwrap())
}

/// A server whose connections are each served by `serve`, which gets the connection's number from 1 on.
async fn raw<F, S>(serve: S) -> (String, Arc<AtomicUsize>)
where
    S: Fn(usize, TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (accepted, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(count.fetch_add(1, Ordering::SeqCst) + 1, stream));
        }
    });
    (url, accepted)
}

/// Reads one request with the body `{}`; false at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return false,
        }
    }
    true
}

async fn write(stream: &mut TcpStream, answer: &str) {
    stream.write_all(answer.as_bytes()).await.unwrap();
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

async fn polite(_: usize, mut stream: TcpStream) {
    while read_request(&mut stream).await {
        write(&mut stream, HELLO).await;
    }
}

#[tokio::test]
async fn requests_one_after_the_other_share_one_connection() {
    let (url, accepted) = raw(polite).await;
    let client = client(&host(url));
    for _ in 0..20 {
        assert_eq!(text(&client).await.unwrap(), "hello");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_kept_connection_that_the_host_closed_is_replaced_unseen() {
    let (url, accepted) = raw(|number, mut stream| async move {
        while read_request(&mut stream).await {
            write(&mut stream, HELLO).await;
            if number == 1 {
                // The next request is read, and answered by nothing but the end of the connection.
                read_request(&mut stream).await;
                return;
            }
        }
    })
    .await;
    let client = client(&host(url));
    for _ in 0..3 {
        assert_eq!(text(&client).await.unwrap(), "hello");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_new_connection_that_is_closed_before_an_answer_is_a_reset_and_not_repeated() {
    let (url, accepted) = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    let client = client(&host(url));
    assert_eq!(text(&client).await, Err(SendError::Reset { unsent: false }));
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_turns_to_the_metadata_service_is_refused_at_connect() {
    let (url, _) = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello").await;
    })
    .await;
    let script = Script::new(&["127.0.0.1", "169.254.169.254"]);
    let client = client_with(&host(url.replace("127.0.0.1", "rebound.example")), script.clone());
    assert_eq!(text(&client).await.unwrap(), "hello");
    let address: IpAddr = "169.254.169.254".parse().unwrap();
    assert_eq!(text(&client).await, Err(SendError::Forbidden { address }));
    assert_eq!(script.asked.load(Ordering::SeqCst), 2, "one look-up for each connection");
}

#[tokio::test]
async fn private_addresses_are_refused_however_they_are_written() {
    let (_, accepted) = raw(polite).await;
    for url in [
        "http://127.0.0.1/v1",
        "http://2130706433/v1",
        "http://0x7f.1/v1",
        "http://[::1]/v1",
        "http://[::ffff:127.0.0.1]/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[64:ff9b::10.0.0.1]/v1",
        "http://10.0.0.1/v1",
    ] {
        let client = client(&Host { allow_private_addresses: false, ..host(url.into()) });
        assert!(matches!(text(&client).await, Err(SendError::Forbidden { .. })), "{url}");
    }
    for answer in ["127.0.0.1", "::ffff:10.0.0.1", "fd00:ec2::254", "0.0.0.0", "10.0.0.1 192.168.0.1"] {
        let inside = Host { allow_private_addresses: false, ..host("http://inside.example/v1".into()) };
        let client = client_with(&inside, Script::new(&[answer]));
        assert!(matches!(text(&client).await, Err(SendError::Forbidden { .. })), "{answer}");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let (url, accepted) = raw(|_, mut stream| async move {
        while read_request(&mut stream).await {
            let answer = "HTTP/1.1 307 Moved\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
            write(&mut stream, answer).await;
        }
    })
    .await;
    let client = client(&host(url));
    let answer = client.send(request(&client)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_never_answers_runs_into_the_connect_timeout() {
    let client = client_with(&host("http://silent.example/v1".into()), Arc::new(Silent));
    assert_eq!(text(&client).await, Err(SendError::ConnectTimeout(Duration::from_secs(3))));
}

#[tokio::test]
async fn what_is_not_http_and_headers_without_end_are_protocol_errors() {
    let (url, _) = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        write(&mut stream, "SSH-2.0-server\r\n\r\n").await;
    })
    .await;
    assert!(matches!(text(&client(&host(url))).await, Err(SendError::Protocol(_))));
    let (url, _) = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(200_000));
        // The client hangs up in the middle.
        let _ = stream.write_all(endless.as_bytes()).await;
    })
    .await;
    assert!(matches!(text(&client(&host(url))).await, Err(SendError::Protocol(_))));
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_the_connection() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
    let (url, _) = raw(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            read_request(&mut stream).await;
            write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhello").await;
            let _ = stream.read_u8().await;
            ended.send(()).unwrap();
        }
    })
    .await;
    let client = client(&host(url));
    let mut answer = client.send(request(&client)).await.unwrap();
    answer.body_mut().frame().await.unwrap().unwrap();
    drop(answer);
    end.recv().await.unwrap();
    assert_eq!(client.kept(), (0, 0));
}

#[tokio::test]
async fn no_more_connections_are_opened_than_allowed() {
    let (url, accepted) = raw(polite).await;
    let http = Http { max_connections: Some(2), ..Http::default() };
    let client = client(&Host { http, ..host(url) });
    for answer in join_all((0..20).map(|_| text(&client))).await {
        assert_eq!(answer.unwrap(), "hello");
    }
    assert!(accepted.load(Ordering::SeqCst) <= 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
    let (url, _) = raw(move |_, mut stream| {
        let ended = ended.clone();
        async move {
            read_request(&mut stream).await;
            write(&mut stream, HELLO).await;
            let _ = stream.read_u8().await;
            ended.send(()).unwrap();
        }
    })
    .await;
    let http = Http { idle_timeout: Duration::from_millis(200), ..Http::default() };
    let client = client(&Host { http, ..host(url) });
    text(&client).await.unwrap();
    end.recv().await.unwrap();
}

/// A server that speaks both versions, with TLS or without, and answers with the version that it was asked in.
async fn versions(tls: Option<rustls::ServerConfig>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let is_whole = match request.version() {
                        Version::HTTP_2 => !request.headers().contains_key("host") && request.uri().host().is_some(),
                        _ => request.headers().contains_key("host"),
                    };
                    assert!(is_whole && request.uri().path() == "/v1/chat/completions");
                    let said = format!("{:?}", request.version());
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(said))))
                });
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder.http2().max_concurrent_streams(100);
                match acceptor {
                    None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        drop(builder.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (port, accepted)
}

/// A certificate for `localhost` that signs itself, as PEM, and the server's configuration with it.
fn certificate() -> (String, rustls::ServerConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (made.cert.pem(), config)
}

fn speaking(version: HttpVersion) -> Http {
    Http { version, ..Http::default() }
}

#[tokio::test]
async fn many_requests_at_once_share_one_http2_connection_without_tls() {
    let (port, accepted) = versions(None).await;
    let client = client(&Host { http: speaking(HttpVersion::H2), ..host(format!("http://h:{port}/v1")) });
    for answer in join_all((0..50).map(|_| text(&client))).await {
        assert_eq!(answer.unwrap(), "HTTP/2.0");
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    assert_eq!(client.kept(), (0, 1));
}

#[tokio::test]
async fn a_full_http2_connection_gets_a_second_one_beside_it() {
    let (port, accepted) = versions(None).await;
    let http = Http { max_streams_per_connection: Some(1), ..speaking(HttpVersion::H2) };
    let client = client(&Host { http, ..host(format!("http://h:{port}/v1")) });
    let first = client.send(request(&client)).await.unwrap();
    let second = client.send(request(&client)).await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
    drop((first, second));
    text(&client).await.unwrap();
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_version_is_agreed_in_the_tls_handshake() {
    let (pem, config) = certificate();
    let (port, _) = versions(Some(config)).await;
    let tls = Tls { verification: TlsVerification::Custom(pem), ..Tls::default() };
    for (version, said) in
        [(HttpVersion::Auto, "HTTP/2.0"), (HttpVersion::H1, "HTTP/1.1"), (HttpVersion::H2, "HTTP/2.0")]
    {
        let url = format!("https://localhost:{port}/v1");
        let client = client(&Host { tls: tls.clone(), http: speaking(version), ..host(url) });
        for answer in join_all((0..10).map(|_| text(&client))).await {
            assert_eq!(answer.unwrap(), said);
        }
    }
}

#[tokio::test]
async fn a_host_that_offers_only_http1_is_spoken_to_in_http1() {
    let (pem, mut config) = certificate();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (port, _) = versions(Some(config)).await;
    let tls = Tls { verification: TlsVerification::Custom(pem), ..Tls::default() };
    let client = client(&Host { tls, ..host(format!("https://localhost:{port}/v1")) });
    for answer in join_all((0..5).map(|_| text(&client))).await {
        assert_eq!(answer.unwrap(), "HTTP/1.1");
    }
}

#[tokio::test]
async fn a_certificate_counts_only_where_its_roots_and_name_do() {
    let (pem, config) = certificate();
    let (port, _) = versions(Some(config)).await;
    let custom = TlsVerification::Custom(pem);
    for (verification, name, server_name, is_taken) in [
        (TlsVerification::System, "localhost", None, false),
        (custom.clone(), "localhost", None, true),
        (custom.clone(), "other.example", None, false),
        (custom, "other.example", Some("localhost".to_owned()), true),
        (TlsVerification::None, "other.example", None, true),
    ] {
        let tls = Tls { verification, server_name, ..Tls::default() };
        let client = client(&Host { tls: tls.clone(), ..host(format!("https://{name}:{port}/v1")) });
        match text(&client).await {
            Ok(_) => assert!(is_taken, "{tls:?}"),
            Err(SendError::Tls { .. }) => assert!(!is_taken, "{tls:?}"),
            Err(error) => panic!("{tls:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_host_that_asks_for_a_certificate_gets_the_clients() {
    let (pem, _) = certificate();
    let made = rcgen::generate_simple_self_signed(["relay".to_owned()]).unwrap();
    let mut trusted = rustls::RootCertStore::empty();
    trusted.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(trusted.into(), provider.clone());
    let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    let (port, _) = versions(Some(config)).await;
    let identity =
        ClientCertificate { chain_pem: made.cert.pem(), key_pem: table::Secret::new(made.signing_key.serialize_pem()) };
    let verification = TlsVerification::Custom(server.cert.pem());
    let row = Host { tls: Tls { verification, ..Tls::default() }, ..host(format!("https://localhost:{port}/v1")) };
    let clients = Clients::new(Script::new(&["127.0.0.1"]));
    let name = ObjectRef::new("a", "h");
    let known = clients.for_host(&name, &row, Some(&identity)).unwrap();
    assert_eq!(text(&known).await.unwrap(), "HTTP/1.1");
    let unknown = clients.for_host(&name, &row, None).unwrap();
    assert!(text(&unknown).await.is_err());
    let newer = Host { tls: Tls { min_version: table::TlsVersion::V1_3, ..row.tls.clone() }, ..row.clone() };
    let strict = clients.for_host(&name, &newer, Some(&identity)).unwrap();
    assert!(matches!(text(&strict).await, Err(SendError::Tls { .. })));
    let mixed = ClientCertificate { chain_pem: pem, ..identity };
    assert!(clients.for_host(&name, &row, Some(&mixed)).err().unwrap().contains("does not fit its key"));
}

#[tokio::test]
async fn no_failure_shows_a_query_or_a_credential() {
    let (closing, _) = raw(|_, _| async {}).await;
    let (mute, _) = raw(|_, mut stream| async move { write(&mut stream, "no http at all\r\n\r\n").await }).await;
    for url in [closing, mute, "http://127.0.0.1:1/v1".into(), "https://127.0.0.1:1/v1".into()] {
        let client = client(&host(url));
        let mut request = request(&client);
        *request.uri_mut() = client.uri("/models?key=sk-canary").unwrap();
        request.headers_mut().insert("x-api-key", http::HeaderValue::from_static("sk-canary"));
        let Err(error) = client.send(request).await else { panic!("nothing there answers") };
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

#[tokio::test]
async fn the_systems_resolver_knows_this_machine() {
    let resolved = super::resolver::System::new().resolve("localhost").await.unwrap();
    assert!(resolved.addresses.iter().all(IpAddr::is_loopback) && !resolved.addresses.is_empty());
}

#[tokio::test]
async fn a_client_lives_as_long_as_what_it_was_built_for() {
    let clients = Clients::new(Script::new(&["127.0.0.1"]));
    let name = ObjectRef::new("a", "h");
    let row = host("http://h.example/v1".into());
    let first = clients.for_host(&name, &row, None).unwrap();
    let suspended = Host { suspended: true, ..row.clone() };
    assert!(Arc::ptr_eq(&first, &clients.for_host(&name, &suspended, None).unwrap()));
    let moved = Host { base_url: "http://i.example/v1".into(), ..row };
    let second = clients.for_host(&name, &moved, None).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(Arc::strong_count(&first), 1);
    clients.retain(|_| false);
    assert_eq!(Arc::strong_count(&second), 1);
}

#[tokio::test]
async fn unusable_hosts_are_said_in_words() {
    let clients = Clients::new(Script::new(&["127.0.0.1"]));
    let said = Mutex::new(Vec::new());
    for row in [
        host("ftp://h/v1".into()),
        host("no url".into()),
        Host {
            tls: Tls { verification: TlsVerification::Custom("no pem".into()), ..Tls::default() },
            ..host("https://h/v1".into())
        },
    ] {
        said.lock().push(clients.for_host(&ObjectRef::new("a", "h"), &row, None).err().unwrap());
    }
    let expected = [
        "the base URL's scheme `ftp` is neither `https` nor `http`",
        "the base URL is not valid: relative URL without a base",
        "the CA bundle holds no certificate",
    ];
    assert_eq!(*said.lock(), expected);
}
