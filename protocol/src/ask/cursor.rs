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
        // The open brackets, innermost lowest: one for an object, zero for a list.
        let (mut open, mut depth) = (0_u64, 0);
        loop {
            let begun = self.peek().ok_or(Fault)?;
            match begun {
                b'"' => {
                    self.pass_string()?;
                }
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

    #[inline]
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

#[cfg(test)]
mod tests;
