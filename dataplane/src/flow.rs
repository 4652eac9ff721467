//! One upstream answer on its way to the caller: bytes in, bytes out, facts beside. Knows compression and shapes;
//! knows nothing of clocks, keys or connections.

use bytes::Bytes;
use protocol::{
    error::{ErrorKind, WireError},
    pipe::{Facts, Pipe, Seen},
};

use crate::gunzip::Gunzip;

/// An answer on its way.
pub struct Flow {
    pipe: Pipe,
    compression: Compression,
    ended: bool,
}

/// What happens to a compressed answer. On the heap, because an answer is moved often, and few are compressed.
enum Compression {
    /// It is not compressed.
    None,
    /// The caller gets it as it came; a copy is decompressed to be watched.
    Kept(Box<Gunzip>),
    /// The caller gets it decompressed, because it is translated or edited.
    Undone(Box<Gunzip>),
}

impl Flow {
    /// An answer that is not compressed.
    pub fn plain(pipe: Pipe) -> Self {
        Self { pipe, compression: Compression::None, ended: false }
    }

    /// A gzip answer; `keep` says whether the caller gets it compressed.
    pub fn gzip(pipe: Pipe, keep: bool) -> Self {
        let gunzip = Box::<Gunzip>::default();
        let compression = if keep { Compression::Kept(gunzip) } else { Compression::Undone(gunzip) };
        Self { pipe, compression, ended: false }
    }

    /// Whether the caller gets the bytes compressed.
    pub fn is_compressed(&self) -> bool {
        matches!(self.compression, Compression::Kept(_))
    }

    /// Whether the upstream's compression was undone.
    pub fn was_undone(&self) -> bool {
        matches!(self.compression, Compression::Undone(_))
    }

    /// Whether the answer's own end was seen: what comes behind it can no longer harm it.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the next piece of the upstream's body; what the caller gets is appended to `out`.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Seen {
        let seen = self.pass(chunk, out);
        self.ended |= seen.ended;
        seen
    }

    /// Takes the end of the upstream's body.
    pub fn end(&mut self, out: &mut Vec<Bytes>) -> Seen {
        let seen = self.pass_rest(out);
        self.ended |= seen.ended;
        seen
    }

    fn pass(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Seen {
        match &mut self.compression {
            Compression::None => self.pipe.push(chunk, out),
            Compression::Undone(gunzip) => match gunzip.push(&chunk) {
                Ok(plain) => self.pipe.push(plain, out),
                Err(_) => corrupt(),
            },
            Compression::Kept(gunzip) => {
                let Ok(plain) = gunzip.push(&chunk) else { return corrupt() };
                let seen = self.pipe.push(plain, &mut Vec::new());
                out.push(chunk);
                seen
            }
        }
    }

    fn pass_rest(&mut self, out: &mut Vec<Bytes>) -> Seen {
        let rest = match &mut self.compression {
            Compression::None => return self.pipe.end(out),
            Compression::Kept(gunzip) | Compression::Undone(gunzip) => gunzip.end(),
        };
        let Ok(rest) = rest else { return corrupt() };
        let mut unseen = Vec::new();
        let out = if self.is_compressed() { &mut unseen } else { out };
        if !rest.is_empty() {
            let seen = self.pipe.push(rest, out);
            if seen.error.is_some() {
                return seen;
            }
        }
        self.pipe.end(out)
    }

    /// What was learnt so far.
    pub fn facts(&self) -> Facts {
        self.pipe.facts()
    }

    /// What was learnt, of an answer that has ended.
    pub fn into_facts(self) -> Facts {
        self.pipe.into_facts()
    }
}

fn corrupt() -> Seen {
    let error = WireError::new(ErrorKind::ServerError, "the upstream's answer is not the gzip that it says it is");
    Seen { error: Some(error), ..Seen::default() }
}
