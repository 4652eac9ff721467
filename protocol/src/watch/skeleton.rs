//! Reduces a whole answer to its frame while it passes: everything but content is kept, content is replaced by nothing.
//!
//! What is left is a small answer of the same shape that the shape's own decoder reads. The scanner follows nesting and
//! strings; whether numbers and words are well-formed is not its matter.

use memchr::memchr2;

use crate::{
    WireShape,
    skim::{NO_CONTENT, NO_MESSAGE, is_kept},
};

/// Most bytes of a skeleton.
const MAX_SKELETON: usize = 256 << 10;
/// Most skeletons have no more bytes.
const USUAL_SKELETON: usize = 512;
/// Deepest nesting.
const MAX_DEPTH: usize = 512;
/// Most answers are nested no deeper.
const USUAL_DEPTH: usize = 16;
/// Longest key that is compared; longer ones are nobody's.
const MAX_KEY: usize = 32;

/// A scanner of a whole answer.
#[derive(Debug)]
pub(super) struct Skeleton {
    shape: WireShape,
    out: Vec<u8>,
    /// The open brackets.
    stack: Vec<u8>,
    /// The keys at the depths 1 and 3.
    keys: [Vec<u8>; 2],
    expects: Expects,
    string: Option<StringPart>,
    /// The depth of the value that is left out.
    skipping: Option<usize>,
    /// Where the value of the key that marks the shape begins in `out`.
    mark: Option<usize>,
    has_key: bool,
    is_marked: bool,
    complete: bool,
    skipped: usize,
    broken: Option<&'static str>,
}

/// What one push has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes of content that passed.
    pub(super) skipped: usize,
    /// Why this is no answer.
    pub(super) broken: Option<&'static str>,
}

/// Which token comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Value,
    Key,
    /// Anything that follows a key or a value.
    Punctuation,
}

/// Which part of a string is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringPart {
    Plain { is_key: bool },
    Escape { is_key: bool },
}

impl Skeleton {
    pub(super) fn new(shape: WireShape) -> Self {
        Self {
            shape,
            out: Vec::new(),
            stack: Vec::new(),
            keys: [Vec::new(), Vec::new()],
            expects: Expects::Value,
            string: None,
            skipping: None,
            mark: None,
            has_key: false,
            is_marked: false,
            complete: false,
            skipped: 0,
            broken: None,
        }
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Scan {
        if self.stack.capacity() == 0 {
            self.out.reserve(USUAL_SKELETON);
            self.stack.reserve(USUAL_DEPTH);
        }
        let before = self.skipped;
        let mut run = Run { bytes, from: 0, at: 0 };
        while let (None, Some(byte)) = (self.broken, run.next()) {
            match self.string {
                Some(part) => self.string_bytes(part, &mut run),
                None => self.token(byte, &mut run),
            }
            if self.skipping.is_none() && self.out.len() + run.length() > MAX_SKELETON {
                self.broken = Some("it has too much beside its content");
            }
        }
        self.keep(&mut run);
        Scan { skipped: self.skipped - before, broken: self.broken }
    }

    /// Whether this is an answer: the key that holds its content was seen, and what else marks the shape.
    pub(super) fn is_answer(&self) -> bool {
        self.has_key && (self.is_marked || self.shape == WireShape::OpenaiChat)
    }

    /// Whether the key that holds the content was seen.
    pub(super) fn has_key(&self) -> bool {
        self.has_key
    }

    /// Whether the outermost object is closed.
    pub(super) fn is_complete(&self) -> bool {
        self.complete && self.broken.is_none()
    }

    /// The reduced answer.
    pub(super) fn json(&self) -> &[u8] {
        &self.out
    }

    /// Settles what was passed over: it is kept, or it is content.
    fn keep(&mut self, run: &mut Run<'_>) {
        let bytes = run.take();
        match self.skipping {
            Some(_) => self.skipped += bytes.len(),
            None => self.out.extend_from_slice(bytes),
        }
    }

    fn string_bytes(&mut self, part: StringPart, run: &mut Run<'_>) {
        let from = run.at;
        let is_key = match part {
            StringPart::Escape { is_key } => {
                self.string = Some(StringPart::Plain { is_key });
                run.at += 1;
                is_key
            }
            StringPart::Plain { is_key } => {
                let end = memchr2(b'"', b'\\', run.rest());
                run.at += end.map_or(run.rest().len(), |end| end + 1);
                if let Some(end) = end {
                    let escaped = run.bytes[from + end] == b'\\';
                    self.string = escaped.then_some(StringPart::Escape { is_key });
                }
                is_key
            }
        };
        if is_key {
            self.note_key(&run.bytes[from..run.at]);
        }
    }

    /// Remembers the key at the depths that matter, with its closing quote.
    fn note_key(&mut self, bytes: &[u8]) {
        let Some(key) = key_slot(self.stack.len()).map(|slot| &mut self.keys[slot]) else { return };
        let room = (MAX_KEY + 1).saturating_sub(key.len());
        key.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn token(&mut self, byte: u8, run: &mut Run<'_>) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.keep(run);
                run.leave_out();
            }
            b',' | b'}' | b']' => self.close_value(byte, run),
            b':' => {
                self.expects = Expects::Value;
                run.at += 1;
            }
            _ if self.complete => self.broken = Some("more follows its end"),
            b'"' if self.expects == Expects::Key => self.open_key(run),
            _ => {
                if self.expects == Expects::Value {
                    self.open_value(byte, run);
                }
                self.value_byte(byte, run);
            }
        }
    }

    fn open_key(&mut self, run: &mut Run<'_>) {
        if let Some(slot) = key_slot(self.stack.len()) {
            self.keys[slot].clear();
        }
        run.at += 1;
        self.string = Some(StringPart::Plain { is_key: true });
        self.expects = Expects::Punctuation;
    }

    /// Decides at the first byte of a value whether it is content.
    fn open_value(&mut self, byte: u8, run: &mut Run<'_>) {
        self.expects = Expects::Punctuation;
        if self.stack.is_empty() && byte != b'{' {
            self.broken = Some("it is not a JSON object");
        }
        if self.skipping.is_some() {
            return;
        }
        self.note_value(byte, run);
        if let Some(replacement) = self.replacement() {
            self.keep(run);
            self.out.extend_from_slice(replacement.as_bytes());
            self.skipping = Some(self.stack.len());
        }
    }

    /// Looks for what marks an answer of the shape.
    fn note_value(&mut self, byte: u8, run: &Run<'_>) {
        let top = self.keys[0].as_slice();
        self.mark = None;
        match (self.shape, self.stack.len()) {
            (WireShape::OpenaiChat, 2) => self.has_key |= top == b"choices\"" && byte == b'{',
            (WireShape::AnthropicMessages, 1) if top == b"content\"" => self.has_key |= byte == b'[',
            (WireShape::AnthropicMessages, 1) if top == b"type\"" => {
                self.mark = Some(self.out.len() + run.length());
            }
            (WireShape::OpenaiChat | WireShape::AnthropicMessages, _) => {}
        }
    }

    /// What stands for the value that begins here; none: it is kept.
    fn replacement(&self) -> Option<&'static str> {
        let (top, inner) = (self.keys[0].as_slice(), self.keys[1].as_slice());
        match (self.shape, self.stack.len(), top) {
            (_, 0, _) => None,
            (WireShape::OpenaiChat, 1, b"choices\"") => None,
            (WireShape::OpenaiChat, 3, b"choices\"") => match inner {
                b"index\"" | b"finish_reason\"" => None,
                b"message\"" => Some(NO_MESSAGE),
                _ => Some("null"),
            },
            (WireShape::AnthropicMessages, 1, b"content\"") => Some(NO_CONTENT),
            (_, 1, key) => (!key.strip_suffix(b"\"").is_some_and(is_kept)).then_some("null"),
            _ => None,
        }
    }

    fn value_byte(&mut self, byte: u8, run: &mut Run<'_>) {
        run.at += 1;
        match byte {
            b'"' => self.string = Some(StringPart::Plain { is_key: false }),
            b'{' | b'[' => {
                self.stack.push(byte);
                self.expects = if byte == b'{' { Expects::Key } else { Expects::Value };
                if self.stack.len() > MAX_DEPTH {
                    self.broken = Some("it is nested too deeply");
                }
            }
            _ => run.pass_word(),
        }
    }

    /// A comma or a closing bracket: the value before it is over.
    fn close_value(&mut self, byte: u8, run: &mut Run<'_>) {
        if self.skipping == Some(self.stack.len()) {
            self.keep(run);
            self.skipping = None;
        }
        if let Some(mark) = self.mark.filter(|_| self.stack.len() == 1) {
            self.keep(run);
            self.is_marked |= self.out[mark..] == *b"\"message\"";
            self.mark = None;
        }
        run.at += 1;
        match (byte, self.stack.last()) {
            (b',', Some(b'{')) => self.expects = Expects::Key,
            (b',', Some(_)) => self.expects = Expects::Value,
            (b'}', Some(b'{')) | (b']', Some(b'[')) => {
                self.stack.pop();
                self.expects = Expects::Punctuation;
                self.complete = self.stack.is_empty();
            }
            _ => self.broken = Some("its brackets do not match"),
        }
    }
}

/// The bytes of a push. Those between `from` and `at` were passed over and have one fate, which is not settled yet.
struct Run<'a> {
    bytes: &'a [u8],
    from: usize,
    at: usize,
}

impl<'a> Run<'a> {
    fn next(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn length(&self) -> usize {
        self.at - self.from
    }

    fn take(&mut self) -> &'a [u8] {
        let from = std::mem::replace(&mut self.from, self.at);
        &self.bytes[from..self.at]
    }

    /// Passes over a byte that is neither kept nor content. All before it is settled.
    fn leave_out(&mut self) {
        self.at += 1;
        self.from = self.at;
    }

    /// Passes over the rest of a number or word.
    fn pass_word(&mut self) {
        let in_word = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
        self.at += self.rest().iter().take_while(in_word).count();
    }
}

/// Which slot holds the keys of a depth.
fn key_slot(depth: usize) -> Option<usize> {
    match depth {
        1 => Some(0),
        3 => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(shape: WireShape, text: &str, chunk: usize) -> Skeleton {
        let mut skeleton = Skeleton::new(shape);
        for piece in text.as_bytes().chunks(chunk) {
            skeleton.push(piece);
        }
        skeleton
    }

    fn reduced(shape: WireShape, text: &str) -> String {
        let whole = scan(shape, text, text.len());
        let pieces = scan(shape, text, 1);
        assert_eq!(whole.json(), pieces.json());
        assert!(whole.is_complete() && pieces.is_complete());
        String::from_utf8(whole.json().to_vec()).unwrap()
    }

    #[test]
    fn keeps_the_frame_of_a_chat_answer() {
        let text = r#"{"id": "c1", "choices": [{"index": 0, "message": {"content": "a \"}] b", "tool_calls": [{}]},
            "logprobs": {"content": [1, 2]}, "finish_reason": "stop"}], "big": {"choices": [1]}, "usage": {"prompt_tokens": 3}}"#;
        let expected = r#"{"id":"c1","choices":[{"index":0,"message":{"role":"assistant","content":null},"logprobs":null,"finish_reason":"stop"}],"big":null,"usage":{"prompt_tokens":3}}"#;
        assert_eq!(reduced(WireShape::OpenaiChat, text), expected);
    }

    #[test]
    fn keeps_the_frame_of_a_messages_answer() {
        let text =
            r#"{"type":"message","content":[{"type":"text","text":"\\"}],"usage":{"input_tokens":1},"container":null}"#;
        let expected = r#"{"type":"message","content":[],"usage":{"input_tokens":1},"container":null}"#;
        assert_eq!(reduced(WireShape::AnthropicMessages, text), expected);
    }

    #[test]
    fn tells_an_answer_from_other_objects() {
        let chat = |text: &str| scan(WireShape::OpenaiChat, text, 3).is_answer();
        assert!(chat(r#"{"x":1,"choices":[{"#));
        assert!(!chat(r#"{"choices":[]}"#) && !chat(r#"{"a":{"choices":[{}]}}"#) && !chat("{}"));
        let messages = |text: &str| scan(WireShape::AnthropicMessages, text, 3).is_answer();
        assert!(messages(r#"{"type" : "message","content": ["#));
        assert!(messages(r#"{"content":[],"type":"message"}"#));
        assert!(!messages(r#"{"type":"error","content":[]}"#) && !messages(r#"{"type":"message"}"#));
    }

    #[test]
    fn tells_what_is_broken() {
        let broken = |text: &str| {
            let mut skeleton = Skeleton::new(WireShape::OpenaiChat);
            skeleton.push(text.as_bytes()).broken
        };
        assert_eq!(broken("<html>"), Some("it is not a JSON object"));
        assert_eq!(broken("[{}]"), Some("it is not a JSON object"));
        assert_eq!(broken("{} x"), Some("more follows its end"));
        assert_eq!(broken("{]"), Some("its brackets do not match"));
        assert_eq!(broken("}"), Some("its brackets do not match"));
        assert_eq!(broken(&format!("{{\"id\":{}", "[".repeat(MAX_DEPTH))), Some("it is nested too deeply"));
        assert_eq!(
            broken(&format!("{{\"id\":\"{}\"", "x".repeat(MAX_SKELETON))),
            Some("it has too much beside its content")
        );
        assert_eq!(broken("{\"choices\":[{\"message\":"), None);
    }

    #[test]
    fn holds_little_of_a_large_answer() {
        let text = "x".repeat(5 << 20);
        let skeleton = scan(WireShape::OpenaiChat, &format!(r#"{{"choices":[{{"message":"{text}"}}]}}"#), 4096);
        assert!(skeleton.is_complete() && skeleton.json().len() < 200);
        assert!(skeleton.skipped > text.len());
    }
}
