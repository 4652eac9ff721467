//! Speaks Redis's protocol to a server over its Unix socket: one command, one reply.

use std::{
    fmt,
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How long a reply may take: a server that is stopped must fail its test, not hang it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a server answers to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A missing value or list.
    Nil,
    /// A number.
    Integer(i64),
    /// A status such as `OK`, or a value. Bytes that are no UTF-8 are replaced.
    Text(String),
    /// An error, with its code first: `MOVED 866 127.0.0.1:12345`.
    Error(String),
    /// A list of replies.
    List(Vec<Reply>),
}

impl fmt::Display for Reply {
    /// As `redis-cli` prints into a pipe: values as they are, lists one item a line, nil as nothing.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => Ok(()),
            Self::Integer(number) => write!(formatter, "{number}"),
            Self::Text(text) | Self::Error(text) => write!(formatter, "{text}"),
            Self::List(items) => {
                let lines: Vec<_> = items.iter().map(Reply::to_string).collect();
                write!(formatter, "{}", lines.join("\n"))
            }
        }
    }
}

/// A connection to one server.
pub(crate) struct Connection(BufReader<UnixStream>);

impl Connection {
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends one command and waits for its reply.
    pub(crate) fn call(&mut self, words: &[&str]) -> Result<Reply> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| unexpected(line))?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => Ok(Reply::Integer(number(rest)?)),
            "$" => self.value(number(rest)?),
            "*" => match number(rest)? {
                -1 => Ok(Reply::Nil),
                count => (0..count).map(|_| self.reply()).collect::<Result<_>>().map(Reply::List),
            },
            _ => Err(unexpected(line)),
        }
    }

    fn value(&mut self, length: i64) -> Result<Reply> {
        let Ok(length) = usize::try_from(length) else { return Ok(Reply::Nil) };
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

fn number(text: &str) -> Result<i64> {
    text.parse().map_err(|_| unexpected(text))
}

fn unexpected(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("`{line}` is no reply of Redis"))
}
