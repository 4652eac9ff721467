//! `relay` processes that serve, and a client that speaks as much HTTP as the tests need.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::relay;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that serves until it is stopped or dropped.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    log: PathBuf,
    /// The first line of stdout, with its line break.
    pub(crate) first_line: String,
    _dir: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Server {
    /// Starts `relay` with these arguments and variables, and waits for its first line.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let log = dir.path().join("stderr");
        let mut command = relay(arguments);
        command.envs(variables.iter().copied()).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(&log).expect("the log can be written"));
        let mut child = command.spawn().expect("relay starts");
        let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut first_line = String::new();
        out.read_line(&mut first_line).expect("relay prints UTF-8");
        Self { child, out, log, first_line, _dir: dir }
    }

    /// A demo upstream.
    pub(crate) fn demo() -> Self {
        Self::start(&["demo-upstream", "--listen", "127.0.0.1:0", "--delay", "0ms"], &[])
    }

    /// A directory that is served on free ports and stops without delay.
    pub(crate) fn run(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = dir.to_str().expect("temporary paths are UTF-8");
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let variables = [&[("RELAY_DEREGISTER_DELAY", "0s")], variables].concat();
        Self::start(&[&["run", dir], ports.as_slice(), arguments].concat(), &variables)
    }

    /// The addresses in the first line.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let after = self.first_line.split("http://").skip(1);
        let ends = |text: &&str| text.find([',', '\n']).unwrap_or(text.len());
        after.map(|text| text[..ends(&text)].parse().expect("an address")).collect()
    }

    /// Where applications connect.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// Where metrics are.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.addresses()[1]
    }

    /// What it has written to stderr so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log is UTF-8")
    }

    /// Waits until its log says something.
    pub(crate) fn says(&self, words: &str) {
        until(|| self.log().contains(words), || format!("`{words}` in the log:\n{}", self.log()));
    }

    /// Sends it a signal, as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Waits for its end: the exit code, and what else it has printed.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("relay prints UTF-8");
        (self.child.wait().expect("relay ends").code(), rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until it is so.
pub(crate) fn until(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {}", what());
        std::thread::yield_now();
    }
}

/// Sends a request and reads the answer to its end.
pub(crate) fn ask(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut text = String::new();
    open(address, path, headers, body).read_to_string(&mut text).expect("the answer is UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Sends a request; the answer is still to be read. A body makes it a POST.
pub(crate) fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the server reads");
    stream
}

/// A chat request of one message.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}"#)
}

/// A Messages request of one message.
pub(crate) fn message(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":100,"stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}"#
    )
}
