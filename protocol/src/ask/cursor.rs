//! Gives values in one pass over the bytes: strings are passed over without being unescaped, objects and lists without a
//! tree. As strict as serde_json, and silent: what it does not take, [`super::worded`] takes, or says why not.

use std::fmt;

use memchr::memchr2;

use super::fields::{Elements, Fields, Value};

/// Deepest nesting, of what is read and of what is passed over. Deeper bodies are not wrong, but not for this reader.
const MAX_DEPTH: u32 = 64;

/// Reads the object that is all of `text` into `fields`. Where it errs, `fields` has taken a part.
pub(super) fn read<'b, F: Fields<'b>>(text: &'b str, fields: &mut F) -> Result<(), Fault> {
    let mut cursor = Cursor { text, at: 0, controls: 0, depth: 0 };
    cursor.object(fields)?;
    cursor.end()
}

/// The text is not JSON, or not what was expected, or not for this reader.
#[derive(Debug)]
pub(super) struct Fault;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not read")
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// A place in a text.
struct Cursor<'b> {
    text: &'b str,
    at: usize,
    /// Control characters that stood between values, where they are space.
    controls: usize,
    depth: u32,
}

impl<'b> Value<'b> for &mut Cursor<'b> {
    type Error = Fault;

    fn raw(self) -> Result<&'b str, Fault> {
        self.space();
        let start = self.at;
        self.pass()?;
        Ok(&self.text[start..self.at])
    }

    fn skip(self) -> Result<(), Fault> {
        self.pass()
    }

    fn object<F: Fields<'b>>(self, fields: &mut F) -> Result<(), Fault> {
        self.open(b'{')?;
        if self.next_is(b'}') {
            return self.close();
        }
        loop {
            let name = self.name()?;
            match name {
                Name::Plain(name) => fields.field(name, &mut *self)?,
                Name::Escaped(name) => fields.field(&name, &mut *self)?,
            }
            if !self.next_is(b',') {
                self.expect(b'}')?;
                return self.close();
            }
        }
    }

    fn list<E: Elements<'b>>(self, elements: &mut E) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string(|piece| elements.text(piece)),
            Some(b'[') => {
                let mut index = 0;
                self.each(|cursor| {
                    index += 1;
                    elements.element(index - 1, cursor)
                })
            }
            _ => self.word(b"null"),
        }
    }

    fn counted(self) -> Result<(&'b str, usize), Fault> {
        let (start, mut count) = (self.peek().map(|_| self.at).ok_or(Fault)?, 0);
        if self.peek() != Some(b'[') {
            return Ok((self.raw()?, 0));
        }
        self.each(|cursor| {
            count += 1;
            cursor.pass()
        })?;
        Ok((&self.text[start..self.at], count))
    }
}

enum Name<'b> {
    Plain(&'b str),
    Escaped(String),
}

impl<'b> Cursor<'b> {
    /// The byte that comes next.
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\n' | b'\r' | b'\t')) = self.byte() {
            self.controls += usize::from(byte != b' ');
            self.at += 1;
        }
    }

    /// The byte that comes next and is no space.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        self.next_is(byte).then_some(()).ok_or(Fault)
    }

    fn open(&mut self, bracket: u8) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault) } else { self.expect(bracket) }
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.depth -= 1;
        Ok(())
    }

    /// Takes the end of the text. No control character may have stood within a string: that each one was met between
    /// values tells so with less work than looking for them in each string.
    fn end(mut self) -> Result<(), Fault> {
        let is_end = self.peek().is_none() && self.controls == controls(self.text.as_bytes());
        is_end.then_some(()).ok_or(Fault)
    }

    /// Takes a list, and has its elements taken.
    fn each(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.open(b'[')?;
        if self.next_is(b']') {
            return self.close();
        }
        loop {
            element(self)?;
            if !self.next_is(b',') {
                self.expect(b']')?;
                return self.close();
            }
        }
    }

    /// Takes a key and its colon.
    fn name(&mut self) -> Result<Name<'b>, Fault> {
        self.space();
        let start = self.at + 1;
        let is_escaped = self.pass_string()?;
        let end = self.at - 1;
        self.expect(b':')?;
        if !is_escaped {
            return Ok(Name::Plain(&self.text[start..end]));
        }
        let (mut name, mut again) = (Vec::new(), Cursor { at: start - 1, ..*self });
        again.string(|piece| name.extend_from_slice(piece))?;
        Ok(Name::Escaped(String::from_utf8_lossy(&name).into_owned()))
    }

    /// Passes over a value.
    fn pass(&mut self) -> Result<(), Fault> {
        // The open brackets, innermost lowest: one for an object, zero for a list.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            let begun = self.peek().ok_or(Fault)?;
            match begun {
                b'"' => drop(self.pass_string()?),
                b'{' | b'[' => {
                    self.at += 1;
                    if !self.next_is(begun + 2) {
                        depth += 1;
                        if depth == MAX_DEPTH {
                            return Err(Fault);
                        }
                        open = open << 1 | u64::from(begun == b'{');
                        if begun == b'{' {
                            self.pass_name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let in_object = open & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if in_object {
                            self.pass_name()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return Err(Fault),
                }
                self.at += 1;
                (open, depth) = (open >> 1, depth - 1);
            }
        }
    }

    fn pass_name(&mut self) -> Result<(), Fault> {
        self.space();
        self.pass_string()?;
        self.expect(b':')
    }

    /// Passes over a string. Says whether it has escapes.
    fn pass_string(&mut self) -> Result<bool, Fault> {
        let bytes = self.text.as_bytes();
        if bytes.get(self.at) != Some(&b'"') {
            return Err(Fault);
        }
        let (mut at, mut is_escaped) = (self.at + 1, false);
        loop {
            at += quote_or_escape(&bytes[at..]).ok_or(Fault)?;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return Ok(is_escaped);
            }
            is_escaped = true;
            at += match bytes.get(at + 1) {
                Some(b'u') => {
                    unit(bytes, at)?;
                    6
                }
                Some(letter) => {
                    plain(*letter)?;
                    2
                }
                None => return Err(Fault),
            };
        }
    }

    /// Takes a string, unescaped and in pieces.
    fn string(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        loop {
            let length = quote_or_escape(&bytes[at..]).ok_or(Fault)?;
            take(&bytes[at..at + length]);
            at += length;
            if bytes[at] == b'"' {
                self.at = at + 1;
                return Ok(());
            }
            at += match bytes.get(at + 1) {
                Some(b'u') => unescape(bytes, at, &mut take)?,
                Some(letter) => {
                    take(&[plain(*letter)?]);
                    2
                }
                None => return Err(Fault),
            };
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        let is_next = self.text.as_bytes()[self.at..].starts_with(word);
        self.at += word.len();
        is_next.then_some(()).ok_or(Fault)
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start { Err(Fault) } else { Ok(()) }
    }
}

/// How far the next quote or backslash is.
fn quote_or_escape(bytes: &[u8]) -> Option<usize> {
    memchr2(b'"', b'\\', bytes)
}

/// What stands for itself behind a backslash, unescaped.
fn plain(letter: u8) -> Result<u8, Fault> {
    Ok(match letter {
        b'n' => b'\n',
        b'"' | b'\\' | b'/' => letter,
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        _ => return Err(Fault),
    })
}

/// Unescapes the `\u` at a place, with its partner where it has one. Says how many bytes it takes.
fn unescape(bytes: &[u8], at: usize, take: &mut impl FnMut(&[u8])) -> Result<usize, Fault> {
    let first = unit(bytes, at)?;
    if let (0xD800..0xDC00, Some(b"\\u")) = (first, bytes.get(at + 6..at + 8))
        && let second @ 0xDC00..0xE000 = unit(bytes, at + 6)?
    {
        let both = 0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00));
        take(char::from_u32(both).ok_or(Fault)?.encode_utf8(&mut [0; 4]).as_bytes());
        return Ok(12);
    }
    match char::from_u32(first) {
        Some(char) => take(char.encode_utf8(&mut [0; 4]).as_bytes()),
        // A surrogate without a partner, as UTF-8 would write it.
        None => take(&[0xE0 | (first >> 12) as u8, 0x80 | (first >> 6 & 0x3F) as u8, 0x80 | (first & 0x3F) as u8]),
    }
    Ok(6)
}

/// The four hexadecimal digits of the `\u` at a place.
fn unit(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let digits = bytes.get(at + 2..at + 6).ok_or(Fault)?;
    let digit = |value: u32, digit: &u8| char::from(*digit).to_digit(16).map(|digit| value << 4 | digit);
    digits.iter().try_fold(0, digit).ok_or(Fault)
}

/// How many control characters there are.
fn controls(bytes: &[u8]) -> usize {
    // Counted in bytes as long as they hold it: many are then counted at a time.
    let few = |bytes: &[u8]| bytes.iter().map(|byte| u8::from(*byte < b' ')).sum::<u8>();
    bytes.chunks(usize::from(u8::MAX)).map(|bytes| usize::from(few(bytes))).sum()
}

#[cfg(test)]
mod tests;
