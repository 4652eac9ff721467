//! Requests per second of `relay run` with every kind of limit in play: counted in memory, and counted in Redis.
//!
//! Relay runs on core 0, `redis-server` on core 1; clients and the provider are in this process, on the other cores. Both
//! ways of counting take turns in one run, so that whatever else the machine does slows down both.
//!
//! `taskset -c 2,3 cargo bench -p relay-cli --bench throughput`

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use servers::{Options, Redis};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const CONNECTIONS: usize = 64;
const PASSES: usize = 5;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"demo","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}"#;

const QUESTION: &str =
    r#"{"model":"demo-chat","max_tokens":512,"messages":[{"role":"user","content":"Hello, who are you?"}]}"#;

#[tokio::main]
async fn main() {
    let redis = Redis::start_with(Options::new().directive("server_cpulist 1"));
    let provider = provider().await;
    let directory = tempfile::tempdir().expect("a temporary directory is made");
    fs::write(directory.path().join("relay.yaml"), manifests(provider)).expect("a file is written");
    let url = redis.url();
    let [memory, shared] =
        [vec![], vec!["--redis", &*url, "--redis-timeout", "5s"]].map(|more| Relay::start(directory.path(), &more));
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for pass in 1..=PASSES {
        alone.push(memory.load().await);
        let before = scripts(&redis);
        together.push(shared.load().await);
        let (one, two) = (&alone[pass - 1], &together[pass - 1]);
        let busy = (scripts(&redis) - before) / two.answers as f64;
        println!(
            "pass {pass}: memory {:.0}/s with {:.0} us of relay each; redis {:.0}/s with {:.0} us of relay and {busy:.0} us of scripts",
            one.per_second, one.micros, two.per_second, two.micros
        );
    }
    let [alone, together] = [median(&alone), median(&together)];
    println!("median: memory {alone:.0}/s, redis {together:.0}/s: {:.2} of it", together / alone);
}

/// What a pass came to.
struct Pass {
    answers: u64,
    per_second: f64,
    /// Of relay's processor time, for a request.
    micros: f64,
}

fn median(passes: &[Pass]) -> f64 {
    let mut rates: Vec<_> = passes.iter().map(|pass| pass.per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A `relay run`, killed when dropped.
struct Relay {
    process: Child,
    address: SocketAddr,
}

impl Relay {
    fn start(directory: &Path, more: &[&str]) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", env!("CARGO_BIN_EXE_relay"), "run"]).arg(directory);
        command.args(["--strict", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).args(more);
        let mut process = command.env("RELAY_LOG", "warn").stdout(Stdio::piped()).spawn().expect("taskset starts");
        let stdout = process.stdout.take().expect("it is piped");
        let line = BufReader::new(stdout).lines().next().expect("relay says where it listens").expect("it is text");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        Self { process, address: address.and_then(|address| address.parse().ok()).expect("an address") }
    }

    async fn load(&self) -> Pass {
        let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(self.address, count.clone(), over.clone()));
        }
        tokio::time::sleep(WARM_UP).await;
        let (began, first, used) = (Instant::now(), count.load(Ordering::Relaxed), self.processor_time());
        tokio::time::sleep(MEASURED).await;
        let answers = count.load(Ordering::Relaxed) - first;
        let (took, used) = (began.elapsed(), self.processor_time() - used);
        over.store(true, Ordering::Relaxed);
        clients.join_all().await;
        let micros = used.as_secs_f64() * 1e6 / answers as f64;
        Pass { answers, per_second: answers as f64 / took.as_secs_f64(), micros }
    }

    /// How long all its threads have run.
    fn processor_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        let nanos = threads.flatten().filter_map(|thread| {
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            stat.split_ascii_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks again and again over one connection.
async fn client(address: SocketAddr, count: Arc<AtomicU64>, over: Arc<AtomicBool>) {
    let stream = TcpStream::connect(address).await.expect("relay listens");
    stream.set_nodelay(true).expect("an option is set");
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    let connection = tokio::spawn(connection);
    while !over.load(Ordering::Relaxed) {
        let request = Request::post("/v1/chat/completions")
            .header("host", "relay")
            .header("authorization", "Bearer bench-token-not-for-production-0123456789")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(QUESTION.as_bytes())))
            .expect("it is a request");
        let (head, body) = sender.send_request(request).await.expect("relay answers").into_parts();
        let body = body.collect().await.expect("the answer is whole").to_bytes();
        assert_eq!(head.status, 200, "{}", String::from_utf8_lossy(&body));
        assert!(!head.headers.contains_key("x-relay-limits"), "redis answers in time");
        count.fetch_add(1, Ordering::Relaxed);
    }
    drop(sender);
    let _ = connection.await;
}

/// A provider that answers at once.
async fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("an option is set");
            tokio::spawn(
                server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from_static(ANSWER.as_bytes()))).expect("it is a response"))
}

/// The microseconds that scripts have taken so far.
fn scripts(redis: &Redis) -> f64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
    let micros = line.split(',').find_map(|field| field.strip_prefix("usec="));
    micros.and_then(|micros| micros.parse().ok()).unwrap_or_default()
}

/// Limits of every kind, none of which is ever reached.
fn manifests(provider: SocketAddr) -> String {
    format!(
        r#"apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {{ name: provider }}
spec:
  protocol: OpenAI
  baseURL: http://{provider}
  allowPlaintext: true
  network: {{ allowPrivateAddresses: true }}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {{ name: demo-chat }}
spec:
  hosts: [{{ name: demo, hostRef: {{ name: provider }}, upstreamModel: demo }}]
  pricing: {{ inputPerMTok: "0.01", outputPerMTok: "0.04" }}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {{ name: provider }}
spec:
  hostRef: {{ name: provider }}
  source: {{ secretKeyRef: {{ name: secrets, key: provider }} }}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {{ name: everyone }}
spec:
  models: {{ allow: ["*"] }}
  limits: {{ rpm: 1000000000, tpm: 100000000000, concurrency: 10000 }}
  budgets: [{{ amount: "1000000.00", period: Month }}]
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{ name: bench }}
spec:
  policyRefs: [{{ name: everyone }}]
  limits: {{ rpm: 1000000000, tpm: 100000000000 }}
  tokenSecretRef: {{ name: secrets, key: token }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: secrets }}
stringData:
  provider: provider-key
  token: bench-token-not-for-production-0123456789
"#
    )
}
