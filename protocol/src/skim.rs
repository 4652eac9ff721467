//! Walks over JSON whose form is plain, without a tree, so that what only passes is not decoded.
//!
//! Everything here answers with none for what is not plain: malformed text, escapes where a word is compared, nesting
//! deeper than anybody needs. None is never a verdict on the text: it is then read by the decoder of its shape, which
//! decides. What is walked over is what `serde_json` would have read, so that both agree on what is JSON.

mod form;

use std::borrow::Cow;

use wide::u8x16;

use crate::{
    answer::{Answer, StopReason},
    usage::Usage,
};

pub(crate) use form::Form;

/// Deepest nesting of a value that is passed over.
pub(crate) const MAX_DEPTH: usize = 32;

/// What stands for the message of a choice in a chat answer without its content.
pub(crate) const NO_MESSAGE: &str = r#"{"role":"assistant","content":null}"#;
/// What stands for the content of a message.
pub(crate) const NO_CONTENT: &str = "[]";

/// What is learnt of a whole answer beside its content.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Brief<'a> {
    pub(crate) id: &'a str,
    pub(crate) model: &'a str,
    pub(crate) usage: Option<Usage>,
    pub(crate) stop: Option<StopReason>,
}

impl<'a> Brief<'a> {
    /// What a decoded answer says.
    pub(crate) fn of(answer: &'a Answer) -> Self {
        let stop = answer.choices.iter().find_map(|choice| choice.stop.as_ref());
        let (usage, stop) = (answer.usage.clone(), stop.map(|stop| stop.reason.clone()));
        Self { id: &answer.id, model: &answer.model, usage, stop }
    }
}

/// Whether a field at the top of an answer is kept in its frame, whatever the shape: names, tokens, reasons and errors.
pub(crate) fn is_kept(key: &[u8]) -> bool {
    matches!(
        key,
        b"id"
            | b"object"
            | b"type"
            | b"role"
            | b"model"
            | b"created"
            | b"usage"
            | b"x_groq"
            | b"service_tier"
            | b"stop_reason"
            | b"stop_sequence"
            | b"error"
            | b"message"
            | b"detail"
            | b"code"
    )
}

/// What an answer has beside its frame.
#[derive(Debug)]
pub(crate) enum Content {
    /// It was left out; something stands for it.
    LeftOut,
    /// It is there, so many bytes so far, the space between its values not counted.
    Here(usize),
}

impl Content {
    /// Passes over a value that is content. `stand_in` is what stands for it where it was left out.
    pub(crate) fn pass(&mut self, reader: &mut Reader<'_>, stand_in: &str) -> Option<()> {
        match self {
            Self::LeftOut => reader.skip().filter(|value| *value == stand_in).map(drop),
            Self::Here(bytes) => {
                *bytes += reader.skip_without_space()?;
                Some(())
            }
        }
    }
}

/// A string as it stands, with its quotes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    quoted: &'a str,
    /// Where it stands.
    at: usize,
    /// How long it is once it is unescaped, in bytes.
    pub(crate) bytes: usize,
}

impl<'a> Text<'a> {
    pub(crate) const EMPTY: Self = Self { quoted: "\"\"", at: 0, bytes: 0 };

    /// What it says.
    pub(crate) fn get(self) -> Option<Cow<'a, str>> {
        match &self.quoted[1..self.quoted.len() - 1] {
            plain if plain.len() == self.bytes => Some(Cow::Borrowed(plain)),
            _ => serde_json::from_str(self.quoted).ok().map(Cow::Owned),
        }
    }

    /// The same, owned.
    pub(crate) fn read(self) -> Option<String> {
        self.get().map(Cow::into_owned)
    }
}

/// What a value is, by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A place in a JSON text.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Bytes of space that were passed over between values.
    space: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, space: 0 }
    }

    /// An object, field by field. Keys come as they stand.
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.fields(|reader, key| field(reader, key.as_bytes()))
    }

    /// The same, with keys as texts.
    pub(crate) fn fields(&mut self, mut field: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        if self.takes(b'}') {
            return Some(());
        }
        loop {
            let key = self.key()?;
            self.expect(b':')?;
            field(self, key)?;
            if !self.takes(b',') {
                return self.expect(b'}');
            }
        }
    }

    /// An array, item by item.
    pub(crate) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.takes(b']') {
            return Some(());
        }
        loop {
            item(self)?;
            if !self.takes(b',') {
                return self.expect(b']');
            }
        }
    }

    /// Nothing but space follows.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.next().is_none().then_some(())
    }

    pub(crate) fn null(&mut self) -> Option<()> {
        self.takes_null()?.then_some(())
    }

    /// Whether the next value is `null`, which is passed over then.
    #[inline]
    pub(crate) fn takes_null(&mut self) -> Option<bool> {
        match self.next()? {
            b'n' => self.word(b"null").map(|()| true),
            _ => Some(false),
        }
    }

    /// `null` or an empty array.
    pub(crate) fn nothing(&mut self) -> Option<()> {
        if self.takes_null()? { Some(()) } else { self.array(|_| None) }
    }

    /// A string that needs no unescaping.
    #[inline]
    pub(crate) fn plain(&mut self) -> Option<&'a str> {
        let (from, bytes) = self.string()?;
        let is_plain = self.at - from - 1 == bytes;
        is_plain.then(|| self.text.get(from..self.at - 1))?
    }

    /// The same, and none for `null`.
    pub(crate) fn plain_or_null(&mut self) -> Option<Option<&'a str>> {
        if self.takes_null()? { Some(None) } else { self.plain().map(Some) }
    }

    /// A string.
    #[inline]
    pub(crate) fn text(&mut self) -> Option<Text<'a>> {
        let (from, bytes) = self.string()?;
        Some(Text { quoted: &self.text[from - 1..self.at], at: from - 1, bytes })
    }

    /// The same, and an empty one for `null`.
    pub(crate) fn text_or_null(&mut self) -> Option<Text<'a>> {
        if self.takes_null()? { Some(Text::EMPTY) } else { self.text() }
    }

    /// How long a string is once it is unescaped, in bytes, and 0 for `null`.
    pub(crate) fn length_or_null(&mut self) -> Option<usize> {
        if self.takes_null()? { Some(0) } else { self.string().map(|(_, bytes)| bytes) }
    }

    /// A small whole number.
    #[inline]
    pub(crate) fn count(&mut self) -> Option<u64> {
        self.next()?;
        let from = self.at;
        self.number()?;
        let digits = &self.text[from..self.at];
        (digits.len() < 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
    }

    /// Passes over a value of any kind and gives it as it stands.
    pub(crate) fn skip(&mut self) -> Option<&'a str> {
        self.next()?;
        let from = self.at;
        self.value(MAX_DEPTH)?;
        Some(&self.text[from..self.at])
    }

    /// The same, and gives how many bytes it has without the space in it.
    fn skip_without_space(&mut self) -> Option<usize> {
        self.next()?;
        let space = self.space;
        let all = self.skip()?.len();
        Some(all - (self.space - space))
    }

    /// What the next value is, if it is one.
    #[inline]
    pub(crate) fn kind(&mut self) -> Option<Kind> {
        Some(match self.next()? {
            b'{' => Kind::Object,
            b'[' => Kind::Array,
            b'"' => Kind::String,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            _ => Kind::Number,
        })
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        let deeper = depth.checked_sub(1)?;
        match self.kind()? {
            Kind::Object => self.object(|reader, _| reader.value(deeper)),
            Kind::Array => self.array(|reader| reader.value(deeper)),
            Kind::String => self.string().map(drop),
            Kind::True => self.word(b"true"),
            Kind::False => self.word(b"false"),
            Kind::Null => self.word(b"null"),
            Kind::Number => self.number(),
        }
    }

    /// A key. Those that begin with `$` have a meaning of their own in `serde_json`.
    #[inline]
    fn key(&mut self) -> Option<&'a str> {
        let (from, length) = self.string()?;
        let key = &self.text[from..self.at - 1];
        (key.len() == length && !key.starts_with('$')).then_some(key)
    }

    /// Passes over a string: where it begins behind its quote, and its length unescaped.
    #[inline]
    fn string(&mut self) -> Option<(usize, usize)> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let (from, mut saved) = (self.at, 0);
        loop {
            self.at += plain_run(&bytes[self.at..]);
            match *bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    let (taken, gives) = escape(&bytes[self.at + 1..])?;
                    self.at += 1 + taken;
                    saved += 1 + taken - gives;
                }
                _control => return None,
            }
        }
        let length = self.at - from - saved;
        self.at += 1;
        Some((from, length))
    }

    fn number(&mut self) -> Option<()> {
        let _negative = self.is(b'-');
        if !self.is(b'0') {
            self.digits()?;
        }
        if self.is(b'.') {
            self.digits()?;
        }
        if self.is(b'e') || self.is(b'E') {
            let _signed = self.is(b'+') || self.is(b'-');
            self.digits()?;
        }
        Some(())
    }

    #[inline]
    fn digits(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let many = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += many;
        (many > 0).then_some(())
    }

    #[inline]
    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_next = self.text.as_bytes()[self.at..].starts_with(word);
        self.at += if is_next { word.len() } else { 0 };
        is_next.then_some(())
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.takes(byte).then_some(())
    }

    #[inline]
    fn takes(&mut self, byte: u8) -> bool {
        self.next();
        self.is(byte)
    }

    #[inline]
    fn is(&mut self, byte: u8) -> bool {
        let is_next = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// The next byte that is no space.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                byte @ b'!'.. => return Some(byte),
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.at += 1;
                    self.space += 1;
                }
                byte => return Some(byte),
            }
        }
    }
}

/// How many bytes stand before the next quote, backslash or control character.
#[inline]
pub(crate) fn plain_run(bytes: &[u8]) -> usize {
    let (pieces, rest) = bytes.as_chunks::<16>();
    for (place, piece) in pieces.iter().enumerate() {
        let stops = stops(*piece);
        if stops != 0 {
            return place * 16 + stops.trailing_zeros() as usize;
        }
    }
    let is_plain = |byte: &&u8| !matches!(byte, b'"' | b'\\' | ..0x20);
    pieces.len() * 16 + rest.iter().take_while(is_plain).count()
}

/// Whether there is no quote, backslash or control character.
#[inline]
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    // What is no whole piece ends with one that overlaps the piece before it.
    if let Some(last) = bytes.last_chunk::<16>() {
        let pieces = bytes.as_chunks::<16>().0;
        return pieces.iter().all(|piece| stops(*piece) == 0) && stops(*last) == 0;
    }
    let mut both = [b'.'; 16];
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        both[..8].copy_from_slice(first);
        both[8..].copy_from_slice(last);
        return stops(both) == 0;
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        both[..4].copy_from_slice(first);
        both[4..8].copy_from_slice(last);
        return stops(both) == 0;
    }
    bytes.iter().all(|byte| !matches!(byte, b'"' | b'\\' | ..0x20))
}

/// Marks quotes, backslashes and control characters among sixteen bytes: a bit for each byte.
#[inline]
pub(crate) fn stops(bytes: [u8; 16]) -> u32 {
    let bytes = u8x16::new(bytes);
    let marked = bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\'));
    (marked | controls(bytes)).to_bitmask()
}

/// Marks control characters.
#[inline]
pub(crate) fn controls(bytes: u8x16) -> u8x16 {
    bytes.simd_eq(bytes.min(u8x16::splat(b' ' - 1)))
}

/// What follows a backslash: how many bytes it takes, and how many it stands for.
fn escape(rest: &[u8]) -> Option<(usize, usize)> {
    match rest.first()? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some((1, 1)),
        b'u' => match code_unit(&rest[1..])? {
            high @ 0xD800..0xDC00 => {
                let low = code_unit(rest[5..].strip_prefix(b"\\u")?)?;
                ((0xDC00..0xE000).contains(&low) && high < 0xDC00).then_some((11, 4))
            }
            0xDC00..0xE000 => None,
            unit => Some((5, char::from_u32(unit)?.len_utf8())),
        },
        _ => None,
    }
}

fn code_unit(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Fills what may be said once. A second time, the decoder decides.
pub(crate) fn once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    match slot.replace(value) {
        None => Some(()),
        Some(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
