//! Answers that are not a conversation's and pass untranslated: held whole, and given on once they are what was asked
//! for.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Facts, Seen};
use crate::{
    error::{ErrorKind, WireError},
    usage::Usage,
};

/// Most bytes of such an answer.
const MAX_ANSWER: usize = 64 << 20;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Embeddings: an object with a list `data`.
    Embeddings,
    /// A count of tokens: an object with a number `input_tokens`.
    TokenCount,
}

/// An answer that is held whole.
#[derive(Debug)]
pub struct Checked {
    wanted: Wanted,
    held: Vec<u8>,
    seen: Seen,
    facts: Facts,
}

#[derive(Deserialize)]
struct Embeddings {
    #[serde(rename = "data")]
    _data: Vec<IgnoredAny>,
    model: Option<String>,
    usage: Option<EmbeddingUsage>,
}

#[derive(Deserialize)]
struct EmbeddingUsage {
    #[serde(default)]
    prompt_tokens: u64,
}

#[derive(Deserialize)]
struct TokenCount {
    #[serde(rename = "input_tokens")]
    _input_tokens: u64,
}

impl Checked {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, held: Vec::new(), seen: Seen::default(), facts: Facts::default() }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Seen {
        if self.seen.error.is_none() {
            self.held.extend_from_slice(chunk);
            if self.held.len() > MAX_ANSWER {
                self.held = Vec::new();
                self.fail("the upstream's answer is larger than 64 MiB");
            }
        }
        self.seen.clone()
    }

    pub(super) fn end(&mut self, out: &mut Vec<Bytes>) -> Seen {
        if self.seen.error.is_some() {
            return self.seen.clone();
        }
        if self.is_as_wanted() {
            (self.seen.content, self.seen.ended) = (true, true);
            out.push(std::mem::take(&mut self.held).into());
        } else {
            self.fail("the upstream's answer is not of the shape that was asked for");
        }
        self.seen.clone()
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn is_as_wanted(&mut self) -> bool {
        match self.wanted {
            Wanted::TokenCount => serde_json::from_slice::<TokenCount>(&self.held).is_ok(),
            Wanted::Embeddings => match serde_json::from_slice::<Embeddings>(&self.held) {
                Ok(answer) => {
                    self.facts.model = answer.model;
                    let counted = |usage: EmbeddingUsage| Usage { input: usage.prompt_tokens, ..Usage::default() };
                    self.facts.usage = answer.usage.map(counted);
                    true
                }
                Err(_) => false,
            },
        }
    }

    fn fail(&mut self, message: &str) {
        self.seen.error = Some(WireError::new(ErrorKind::ServerError, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wanted: Wanted, body: &str) -> (Seen, Vec<Bytes>, Facts) {
        let (mut checked, mut out) = (Checked::new(wanted), Vec::new());
        for byte in body.as_bytes() {
            checked.push(&[*byte]);
        }
        let seen = checked.end(&mut out);
        (seen, out, checked.facts())
    }

    #[test]
    fn embeddings_pass_untouched_with_their_usage() {
        let body = r#"{"data":[{"embedding":[0.5]}],"model":"e","usage":{"prompt_tokens":7,"total_tokens":7}}"#;
        let (seen, out, facts) = read(Wanted::Embeddings, body);
        assert_eq!((seen.content, seen.error), (true, None));
        assert_eq!(out, [body]);
        assert_eq!(facts.usage.map(|usage| usage.input), Some(7));
    }

    #[test]
    fn anything_else_is_no_answer() {
        for body in ["", "{}", "<html>", r#"{"error":{"message":"no"}}"#, r#"{"data":1}"#] {
            assert!(read(Wanted::Embeddings, body).0.error.is_some(), "{body}");
            assert!(read(Wanted::TokenCount, body).0.error.is_some(), "{body}");
        }
    }
}
