//! Everything that a Redis executes, in its order: what `MONITOR` says, read back into words.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// A command that was executed.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    /// Redis' time, in microseconds since 1970.
    pub(crate) at: u64,
    /// Whether a script called it.
    pub(crate) by_script: bool,
    pub(crate) words: Vec<Vec<u8>>,
}

/// A Redis that is listened to.
pub(crate) struct Monitor {
    executed: Arc<Mutex<Vec<Executed>>>,
}

impl Monitor {
    /// Listens from now on.
    pub(crate) fn start(redis: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(redis).expect("Redis accepts");
        stream.write_all(b"MONITOR\r\n").expect("Redis reads");
        let mut lines = BufReader::new(stream).lines();
        assert_eq!(lines.next().expect("an answer").expect("text"), "+OK");
        let executed = Arc::new(Mutex::new(Vec::new()));
        let log = executed.clone();
        thread::spawn(move || {
            // Ends with the server.
            for line in lines.map_while(Result::ok) {
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Executed::read(&line));
            }
        });
        Self { executed }
    }

    /// What was executed so far.
    pub(crate) fn executed(&self) -> Vec<Executed> {
        self.executed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Executed {
    /// Reads `+1700000000.123456 [0 127.0.0.1:1234] "GET" "a"`; a script's commands have `lua` for an address.
    fn read(line: &str) -> Self {
        let (time, rest) = line.trim_start_matches('+').split_once(' ').expect("a time");
        let (seconds, micros) = time.split_once('.').expect("a time has a fraction");
        let number = |text: &str| text.parse::<u64>().expect("digits");
        let (from, words) = rest.split_once(']').expect("where it comes from");
        Self {
            at: number(seconds) * 1_000_000 + number(micros),
            by_script: from.ends_with(" lua"),
            words: words_of(words),
        }
    }
}

fn words_of(text: &str) -> Vec<Vec<u8>> {
    let (mut words, mut word, mut bytes) = (Vec::new(), None::<Vec<u8>>, text.bytes());
    while let Some(byte) = bytes.next() {
        match (&mut word, byte) {
            (None, b'"') => word = Some(Vec::new()),
            (None, _) => {}
            (Some(_), b'"') => words.extend(word.take()),
            (Some(word), b'\\') => word.push(escaped(&mut bytes)),
            (Some(word), byte) => word.push(byte),
        }
    }
    words
}

fn escaped(bytes: &mut impl Iterator<Item = u8>) -> u8 {
    match bytes.next().expect("something is escaped") {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'x' => {
            let digits = [bytes.next().expect("two digits"), bytes.next().expect("two digits")];
            let digits = std::str::from_utf8(&digits).expect("digits are ASCII");
            u8::from_str_radix(digits, 16).expect("hexadecimal digits")
        }
        other => other,
    }
}
