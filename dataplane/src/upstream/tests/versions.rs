//! HTTP versions and TLS.

use http::{Response, Version};
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use table::{ClientCertificate, HttpVersion};

use super::*;

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
async fn a_kept_connection_with_tls_serves_one_request_after_the_other() {
    let (pem, mut config) = certificate();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets come between the answers.
    config.send_tls13_tickets = 4;
    let (port, accepted) = versions(Some(config)).await;
    let tls = Tls { verification: TlsVerification::Custom(pem), ..Tls::default() };
    let client = client(&Host { tls, http: speaking(HttpVersion::H1), ..host(format!("https://localhost:{port}/v1")) });
    for _ in 0..10 {
        assert_eq!(text(&client).await.unwrap(), "HTTP/1.1");
        assert_eq!(client.kept(), (1, 0));
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}
