//! Where an upstream may be: addresses are judged after every resolution, and redirects are not followed.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dataplane::upstream::resolver::{Resolve, Resolved};
use futures::future::BoxFuture;
use support::{
    client::Ask,
    relay::{TestRelay, config},
    tables::Tables,
    upstream::{Act, Script, Upstream},
    wire::{self, SHAPES},
};
use table::WireShape::OpenaiChat;

/// Answers from a list, one line after the other; the last one for ever.
struct Scripted {
    lines: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(lines: &[&str]) -> Arc<Self> {
        let addresses = |line: &&str| line.split(' ').map(|text| text.parse().expect("an address")).collect();
        Arc::new(Self { lines: lines.iter().map(addresses).collect(), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.lines.len() - 1);
        let addresses = self.lines[turn].clone();
        Box::pin(async move { Ok(Resolved { addresses, valid_for: Duration::ZERO }) })
    }
}

/// A data plane whose only host is `name` at the upstream's port, which may not be at a private address.
async fn guarded(name: &str, upstream: &Upstream, resolver: Arc<Scripted>) -> TestRelay {
    at(name, upstream, resolver, false).await
}

/// A data plane whose only host is `name` at the upstream's port.
async fn at(name: &str, upstream: &Upstream, resolver: Arc<Scripted>, allow_private: bool) -> TestRelay {
    let url = format!("http://{name}:{}/v1", upstream.address.port());
    let tables = Tables::new()
        .host_with("h", OpenaiChat, &url, &["secret-of-the-host"], |host| {
            host.allow_private_addresses = allow_private;
            host.timeouts.connect = Duration::from_secs(30);
        })
        .model("m", &["h"])
        .policy(|policy| policy.routing.max_attempts = 1);
    TestRelay::start_with(tables, config(), resolver).await
}

#[tokio::test]
async fn a_name_with_an_address_that_is_not_public_is_refused_and_nothing_is_sent() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    for line in ["127.0.0.1", "::ffff:127.0.0.1", "::1", "10.0.0.1 127.0.0.1", "169.254.169.254", "fd00:ec2::254"] {
        let relay = guarded("llm.test", &upstream, Scripted::new(&[line])).await;
        for client in SHAPES {
            let answer = relay.ask(&Ask::of(client, "m")).await;
            assert_eq!(answer.status, 502, "{line}: {}", answer.text());
            wire::message_of(client, &answer);
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_literal_address_that_is_not_public_is_refused_in_every_spelling() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    for name in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "2130706433", "0x7f.1", "[::ffff:7f00:1]", "127.1"] {
        let relay = guarded(name, &upstream, Scripted::new(&["127.0.0.1"])).await;
        let answer = relay.ask(&Ask::openai("m")).await;
        assert!(answer.status >= 500, "{name}: {}", answer.text());
    }
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn a_name_that_was_permitted_is_judged_again_when_it_is_resolved_again() {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi").then(Act::Close)).await;
    let resolver = Scripted::new(&["127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"]);
    // Private addresses are allowed, so that the first answer may be this machine; the metadata service never is.
    let relay = at("rebinding.test", &upstream, resolver.clone(), true).await;
    assert_eq!(relay.ask(&Ask::openai("m")).await.status, 200);
    for _ in 0..3 {
        let answer = relay.ask(&Ask::openai("m")).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    assert!(resolver.asked.load(Ordering::SeqCst) >= 4);
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = Upstream::start(|request| wire::good(OpenaiChat, request, "CANARY")).await;
    let target = format!("{}/chat/completions", inside.url());
    for status in [301, 302, 303, 307, 308] {
        let location = target.clone();
        let outside = Upstream::start(move |request| match request.key() {
            "redirecting" => Script::answer_with(status, &[("location", &location)], ""),
            _ => wire::good(OpenaiChat, request, "hi"),
        })
        .await;
        let tables = Tables::new()
            .host("h", OpenaiChat, &outside.url(), &["redirecting", "good"])
            .host("only", OpenaiChat, &outside.url(), &["redirecting"])
            .model("m", &["h"])
            .model("only", &["only"]);
        let relay = TestRelay::start(tables).await;
        let answer = relay.ask(&Ask::openai("m")).await;
        assert_eq!(wire::text_of(OpenaiChat, false, &answer), "hi", "{status}: {}", answer.text());
        let answer = relay.ask(&Ask::openai("only")).await;
        assert!(answer.status >= 500, "{status}: {} {}", answer.status, answer.text());
        assert_eq!(answer.header("location"), None);
        assert_eq!(inside.connections(), 0);
    }
}
