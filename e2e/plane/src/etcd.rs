//! An etcd of one member that speaks over Unix sockets in the plane's folder, and so needs no port.

use std::{
    io::{Read, Result, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};

use crate::process::Process;

/// Where clients reach it, from within the plane's folder: etcd wants a host and a port, and takes both for the file.
pub(crate) const URL: &str = "unix://etcd:0";
const SOCKET: &str = "etcd:0";
const PEERS: &str = "unix://peers:0";

pub(crate) struct Etcd {
    socket: PathBuf,
    _process: Process,
}

impl Etcd {
    pub(crate) fn start(program: &Path, directory: &Path) -> Self {
        let socket = directory.join(SOCKET);
        let mut command = Command::new(program);
        command.args(["--data-dir=etcd", "--log-level=warn", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", URL, "--advertise-client-urls", URL]);
        command.args(["--listen-peer-urls", PEERS, "--initial-advertise-peer-urls", PEERS]);
        command.arg(format!("--initial-cluster=default={PEERS}"));
        let healthy = || request(&socket, "GET", "/health", "").is_ok_and(|body| body.contains("\"true\""));
        let process = Process::start(command, directory, healthy).unwrap_or_else(|log| panic!("etcd ended: {log}"));
        Self { socket, _process: process }
    }

    /// Forgets everything before the newest revision, which is returned.
    pub(crate) fn compact(&self) -> i64 {
        // Some key has to be named; it need not exist.
        let newest = self.call("/v3/kv/range", &json!({"key": "AA=="}));
        let revision = newest["header"]["revision"].as_str().and_then(|text| text.parse().ok());
        let revision: i64 = revision.unwrap_or_else(|| panic!("etcd names no revision: {newest}"));
        self.call("/v3/kv/compaction", &json!({"revision": revision, "physical": true}));
        revision
    }

    fn call(&self, path: &str, question: &Value) -> Value {
        let answer = request(&self.socket, "POST", path, &question.to_string()).expect("etcd answers");
        let value: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("etcd answers {path}: {answer}"));
        assert!(value["code"].is_null(), "etcd answers {path}: {answer}");
        value
    }
}

/// One HTTP request; the body of the answer.
fn request(socket: &Path, method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
