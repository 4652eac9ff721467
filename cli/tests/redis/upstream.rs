//! An upstream in OpenAI's shape whose answers take as long, and count as much, as the test wants.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// What every input counts.
pub(crate) const INPUT: u64 = 5;

/// Between two words of an answer: long enough that callers can leave in the middle.
const PACE: Duration = Duration::from_millis(10);
const WORDS: usize = 4;

/// Answers until the test ends. The model `held` streams one word and then waits to be let go.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    let_go: AtomicBool,
    held: AtomicUsize,
}

impl Upstream {
    /// Listens on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, state) = (listener.local_addr().expect("it is bound"), Arc::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A caller that went away ends the connection, and nothing else.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { address, state }
    }

    /// Streams that wait to be let go.
    pub(crate) fn held(&self) -> usize {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Lets all streams that are held end, and those that come.
    pub(crate) fn let_go(&self) {
        self.state.let_go.store(true, Ordering::SeqCst);
    }
}

fn serve(mut stream: &TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = BufReader::new(stream.try_clone()?);
    while let Some(request) = receive(&mut read)? {
        let usage = usage(&request);
        if request["stream"] != true {
            thread::sleep(PACE);
            whole(&mut stream, &usage)?;
            continue;
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
        for _ in 0..WORDS {
            say(&mut stream, &delta(&json!({"content": "hi "}), None))?;
            hold(state, &request);
            thread::sleep(PACE);
        }
        say(&mut stream, &delta(&json!({}), Some("stop")))?;
        say(
            &mut stream,
            &json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up",
                                 "choices": [], "usage": usage})
            .to_string(),
        )?;
        say(&mut stream, "[DONE]")?;
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads one request; `None` at the end of the connection.
fn receive(read: &mut impl BufRead) -> io::Result<Option<Value>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if read.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length is a number");
        }
    }
    let mut body = vec![0; length];
    read.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body).unwrap_or_default()))
}

/// As much as was asked for; of a model that counts freely, what its `seed` says.
fn usage(request: &Value) -> Value {
    let most = request["max_tokens"].as_u64().unwrap_or(10);
    let output = request["seed"].as_u64().map_or(most, |seed| seed % most + 1);
    json!({"prompt_tokens": INPUT, "completion_tokens": output, "total_tokens": INPUT + output})
}

fn hold(state: &State, request: &Value) {
    if request["model"] != "held" {
        return;
    }
    state.held.fetch_add(1, Ordering::SeqCst);
    while !state.let_go.load(Ordering::SeqCst) {
        thread::sleep(PACE);
    }
    state.held.fetch_sub(1, Ordering::SeqCst);
}

fn whole(stream: &mut impl Write, usage: &Value) -> io::Result<()> {
    let body = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "up", "usage": usage,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]});
    let body = body.to_string();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn delta(delta: &Value, finish: Option<&str>) -> String {
    let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "up", "choices": choices}).to_string()
}

fn say(stream: &mut impl Write, data: &str) -> io::Result<()> {
    let event = format!("data: {data}\n\n");
    write!(stream, "{:x}\r\n{event}\r\n", event.len())
}
