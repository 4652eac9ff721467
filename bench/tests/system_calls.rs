//! What Relay asks of the kernel for a request and for an event of a stream, as strace counts it. Relay is a process of its
//! own on one core, as it is shipped, and events come one by one. That process is this program too, which therefore has no
//! harness of tests.

mod support;

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use bench::{client::Connection, cores::Cores, gateway::EVERYTHING, requests, upstream::Upstream};
use support::{baseline, relay, tools};
use tokio::runtime::Runtime;

/// A run with few and one with many: what the second has more is the price of one.
const REQUESTS: [usize; 2] = [100, 600];
const EVENTS: [usize; 2] = [60, 460];
const STREAMS: usize = 2;
/// Timers run while strace slows everything down.
const TOLERANCE: f64 = 0.1;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [part, upstream] = &arguments[..]
        && part == "gateway"
    {
        return gateway(upstream.parse().expect("an upstream is an address"));
    }
    if !tools::has("strace") {
        return;
    }
    Runtime::new().unwrap().block_on(async {
        a_request_makes_no_more_system_calls_than_are_recorded().await;
        an_event_of_a_stream_makes_no_more_system_calls_than_are_recorded().await;
    });
}

/// Serves as `relay run` does, says where, and ends when its input does.
fn gateway(upstream: SocketAddr) {
    Runtime::new().unwrap().block_on(async {
        println!("{}", relay::start(upstream).await);
        let until_closed = || io::stdin().read_to_end(&mut Vec::new());
        tokio::task::spawn_blocking(until_closed).await.unwrap().unwrap();
    });
    // Nothing is to be drained.
    std::process::exit(0);
}

/// Relay under strace.
struct Traced {
    strace: Child,
    address: SocketAddr,
    summary: tempfile::NamedTempFile,
}

impl Traced {
    fn start(upstream: SocketAddr) -> Self {
        let summary = tempfile::NamedTempFile::new().unwrap();
        let core = Cores::of_this_machine().map_or(0, |cores| cores.gateway);
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), "strace", "-f", "-c", "-o"]).arg(summary.path());
        command.arg(env::current_exe().unwrap()).args(["gateway", &upstream.to_string()]);
        let mut strace = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(strace.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { strace, address: line.trim().parse().unwrap_or_else(|_| panic!("`{line}` is no address")), summary }
    }

    /// How many calls it has made in all, by the end of it.
    fn ended(mut self) -> f64 {
        drop(self.strace.stdin.take());
        assert!(self.strace.wait().unwrap().success());
        let text = fs::read_to_string(self.summary.path()).unwrap();
        // % time, seconds, usecs/call, calls, errors where there are any, name.
        let total = text.lines().find(|line| line.trim_end().ends_with(" total"));
        let total = total.unwrap_or_else(|| panic!("strace counted nothing: {text}"));
        println!("{text}");
        total.split_ascii_whitespace().nth(3).unwrap().parse().unwrap()
    }
}

async fn a_request_makes_no_more_system_calls_than_are_recorded() {
    let mut calls = [0.0; 2];
    for (calls, many) in calls.iter_mut().zip(REQUESTS) {
        let upstream = Upstream::start().await.unwrap();
        let traced = Traced::start(upstream.address);
        let mut connection = Connection::open(traced.address).await.unwrap();
        for _ in 0..many {
            connection.ask(&requests::openai(EVERYTHING, false)).await.unwrap();
        }
        *calls = traced.ended();
    }
    let requests = (REQUESTS[1] - REQUESTS[0]) as f64;
    baseline::check("system calls per request: same shape, everything on", (calls[1] - calls[0]) / requests, TOLERANCE);
}

async fn an_event_of_a_stream_makes_no_more_system_calls_than_are_recorded() {
    let mut calls = [0.0; 2];
    for (calls, events) in calls.iter_mut().zip(EVENTS) {
        let (upstream, pace) = Upstream::paced(events).await.unwrap();
        let traced = Traced::start(upstream.address);
        let mut connection = Connection::open(traced.address).await.unwrap();
        for _ in 0..STREAMS {
            pace.saw(0);
            let request = requests::openai(EVERYTHING, true);
            connection.ask_telling(&request, |events| pace.saw(events)).await.unwrap();
        }
        *calls = traced.ended();
    }
    let events = (STREAMS * (EVENTS[1] - EVENTS[0])) as f64;
    baseline::check("system calls per event: same shape", (calls[1] - calls[0]) / events, TOLERANCE);
}
