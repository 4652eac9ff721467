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
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use table::{Auth, Host, Http, ObjectRef, Timeouts, Tls, TlsVerification, WireShape};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    client::Client,
    clients::Clients,
    error::SendError,
    resolver::{Resolve, Resolved},
    upload::Whole,
};

mod answers;
mod versions;

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

fn request(client: &Client) -> Request<Whole> {
    Request::post(client.uri("/chat/completions").unwrap()).body(Whole::from(Bytes::from_static(b"{}"))).unwrap()
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
async fn who_finds_all_connections_in_use_waits_no_longer_than_for_a_new_one() {
    let (url, _) = raw(|_, mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let http = Http { max_connections: Some(1), ..Http::default() };
    let timeouts = Timeouts { connect: Duration::from_millis(50), ..Timeouts::default() };
    let client = client(&Host { http, timeouts, ..host(url) });
    let mut first = Box::pin(client.send(request(&client)));
    let second = client.send(request(&client));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the host never answers"),
        refused = second => assert_eq!(refused.err(), Some(SendError::Full { most: 1 })),
    }
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
