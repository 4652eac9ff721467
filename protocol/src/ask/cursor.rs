//! Gives values in one pass over the bytes: strings are passed over without being unescaped, objects and lists without a
//! tree. As strict as serde_json, and silent: what it does not take, [`super::worded`] takes, or says why not.

use std::{borrow::Cow, fmt};

use super::{
    fields::{Elements, Fields, Value},
    strings::{self, Passed},
};

/// Deepest nesting, of what is read and of what is passed over. Deeper bodies are not wrong, but not for this reader.
const MAX_DEPTH: u32 = 64;

/// Reads the object that is all of `text` into `fields`. Where it errs, `fields` has taken a part.
pub(super) fn read<'b, F: Fields<'b>>(text: &'b str, fields: &mut F) -> Result<(), Fault> {
    let mut cursor = Cursor { text, at: 0, depth: 0 };
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
            fields.field(&name, &mut *self)?;
            if !self.next_is(b',') {
                self.expect(b'}')?;
                return self.close();
            }
        }
    }

    fn list<E: Elements<'b>>(self, elements: &mut E) -> Result<(), Fault> {
        match self.peek() {
            Some(b'"') => self.string(elements),
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

impl<'b> Cursor<'b> {
    /// The byte that comes next.
    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        self.peek();
    }

    /// The byte that comes next and is no space.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                byte @ b'!'.. => return Some(byte),
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    #[inline]
    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        self.next_is(byte).then_some(()).ok_or(Fault)
    }

    #[inline]
    fn open(&mut self, bracket: u8) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Fault) } else { self.expect(bracket) }
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.depth -= 1;
        Ok(())
    }

    fn end(mut self) -> Result<(), Fault> {
        self.peek().is_none().then_some(()).ok_or(Fault)
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
    fn name(&mut self) -> Result<Cow<'b, str>, Fault> {
        self.space();
        let start = self.at + 1;
        let length = self.pass_string()?;
        let inside = &self.text[start..self.at - 1];
        self.expect(b':')?;
        match inside.len() == length {
            true => Ok(Cow::Borrowed(inside)),
            false => {
                let mut name = Vec::with_capacity(length);
                strings::pieces(inside.as_bytes(), |piece| name.extend_from_slice(piece));
                Ok(Cow::Owned(String::from_utf8_lossy(&name).into_owned()))
            }
        }
    }

    /// Passes over a value.
    fn pass(&mut self) -> Result<(), Fault> {
        self.space();
        self.at = passed(self.text.as_bytes(), self.at).ok_or(Fault)?;
        Ok(())
    }

    /// Passes over a string. Gives how many bytes it has when it is unescaped.
    fn pass_string(&mut self) -> Result<usize, Fault> {
        if self.byte() != Some(b'"') {
            return Err(Fault);
        }
        let Passed { end, bytes } = strings::pass(self.text.as_bytes(), self.at + 1).ok_or(Fault)?;
        self.at = end;
        Ok(bytes)
    }

    /// Takes a string that stands for a list.
    fn string<E: Elements<'b>>(&mut self, elements: &mut E) -> Result<(), Fault> {
        let start = self.at + 1;
        elements.text(self.pass_string()?);
        if elements.listens() {
            strings::pieces(&self.text.as_bytes()[start..self.at - 1], |piece| elements.piece(piece));
        }
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), Fault> {
        self.at = after_word(self.text.as_bytes(), self.at, word).ok_or(Fault)?;
        Ok(())
    }
}

/// Where the value ends that begins at a place.
fn passed(text: &[u8], mut at: usize) -> Option<usize> {
    // The open brackets, innermost lowest: one for an object, zero for a list.
    let (mut open, mut depth) = (0_u64, 0);
    loop {
        if open & 1 == 1 {
            at = after_name(text, at)?;
        }
        match *text.get(at)? {
            b'"' => at = strings::pass(text, at + 1)?.end,
            begun @ (b'{' | b'[') => {
                at = after_space(text, at + 1);
                if *text.get(at)? != begun + 2 {
                    depth += 1;
                    open = open << 1 | u64::from(begun == b'{');
                    if depth == MAX_DEPTH {
                        return None;
                    }
                    continue;
                }
                at += 1;
            }
            b't' => at = after_word(text, at, b"true")?,
            b'f' => at = after_word(text, at, b"false")?,
            b'n' => at = after_word(text, at, b"null")?,
            _ => at = after_number(text, at)?,
        }
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = after_space(text, at);
            let next = *text.get(at)?;
            if next == b',' {
                break;
            }
            if next != if open & 1 == 1 { b'}' } else { b']' } {
                return None;
            }
            at += 1;
            (open, depth) = (open >> 1, depth - 1);
        }
        at = after_space(text, at + 1);
    }
}

/// Where space ends that may begin at a place.
#[inline]
fn after_space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// Where the value begins whose name stands at a place.
#[inline]
fn after_name(text: &[u8], at: usize) -> Option<usize> {
    if *text.get(at)? != b'"' {
        return None;
    }
    let at = after_space(text, strings::pass(text, at + 1)?.end);
    (*text.get(at)? == b':').then(|| after_space(text, at + 1))
}

fn after_word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

fn after_number(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + usize::from(text.get(at) == Some(&b'-'));
    at = match text.get(at) {
        Some(b'0') => at + 1,
        _ => after_digits(text, at)?,
    };
    if text.get(at) == Some(&b'.') {
        at = after_digits(text, at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        at = after_digits(text, at + usize::from(matches!(text.get(at), Some(b'+' | b'-'))))?;
    }
    Some(at)
}

fn after_digits(text: &[u8], at: usize) -> Option<usize> {
    let many = text.get(at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (many > 0).then_some(at + many)
}

#[cfg(test)]
mod tests;
