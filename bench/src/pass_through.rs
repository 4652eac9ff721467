//! The least that a proxy written with hyper can be: takes requests, sends them on over pooled connections, and passes
//! answers back as they come. What Relay costs beyond it is Relay's own.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use anyhow::Context;
use hyper::{
    Request, Response, Uri,
    body::Incoming,
    header::HOST,
    http::uri::{Authority, PathAndQuery, Scheme},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

/// Serves on a free port, which it prints, until its process ends.
pub async fn run(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the pass-through")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let authority: Authority = upstream.to_string().parse().context("an address is an authority")?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (client, authority) = (client.clone(), authority.clone());
        let service = service_fn(move |request| pass(client.clone(), authority.clone(), request));
        tokio::spawn(async move {
            // Whoever measures closes connections in the middle of streams.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn pass(
    client: Client<HttpConnector, Incoming>,
    authority: Authority,
    mut request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut parts = hyper::http::uri::Parts::default();
    (parts.scheme, parts.authority, parts.path_and_query) = (Some(Scheme::HTTP), Some(authority), Some(path));
    *request.uri_mut() = Uri::from_parts(parts).expect("it has all three parts");
    request.headers_mut().remove(HOST);
    client.request(request).await
}
