//! Passes over the strings of JSON without unescaping them: they are most of a body.

use memchr::memchr;
use wide::u8x32;

/// A string that was passed over.
pub(super) struct Passed {
    /// Where it ends, behind its quote.
    pub(super) end: usize,
    /// How many bytes it has, unescaped. Surrogates without a partner have three.
    pub(super) bytes: usize,
}

/// Passes over the string whose inside begins at `start`. None: it does not end, has an escape that is none, or has a
/// control character.
pub(super) fn pass(text: &[u8], start: usize) -> Option<Passed> {
    let (mut block, mut begun, mut saved) = (start, 0, 0);
    while block < text.len() {
        // What of an escape reaches into this block stands for itself no more.
        let mut marks = marks(&text[block..]) >> begun << begun;
        begun = 0;
        while marks != 0 {
            let place = marks.trailing_zeros() as usize;
            let at = block + place;
            match text[at] {
                b'"' => return Some(Passed { end: at + 1, bytes: at - start - saved }),
                b'\\' => {
                    let (length, size) = match text.get(at + 1)? {
                        b'n' | b't' | b'r' | b'"' | b'\\' | b'/' | b'b' | b'f' => (2, 1),
                        _ => Escape::at(text, at).map(|escape| (escape.length, escape.size))?,
                    };
                    saved += length - size;
                    let next = place + length;
                    marks = marks >> next << next;
                    begun = next.saturating_sub(BLOCK);
                }
                _ => return None,
            }
        }
        block += BLOCK;
    }
    None
}

/// Gives the inside of a string that was passed over, unescaped and in pieces.
pub(super) fn pieces(mut inside: &[u8], mut take: impl FnMut(&[u8])) {
    while let Some((plain, escape)) =
        memchr(b'\\', inside).and_then(|at| Some((&inside[..at], Escape::at(inside, at)?)))
    {
        take(plain);
        take(&escape.stands_for[..escape.size]);
        inside = &inside[plain.len() + escape.length..];
    }
    take(inside);
}

/// How many bytes are compared at once.
const BLOCK: usize = 32;

/// Marks quotes, backslashes and control characters in the block that begins a text: a bit for each byte.
#[inline]
fn marks(text: &[u8]) -> u64 {
    let block = u8x32::new(text.first_chunk().copied().unwrap_or_else(|| padded(text)));
    let quotes = block.simd_eq(u8x32::splat(b'"'));
    let escapes = block.simd_eq(u8x32::splat(b'\\'));
    let controls = block.simd_eq(block.min(u8x32::splat(b' ' - 1)));
    u64::from((quotes | escapes | controls).to_bitmask())
}

/// The last block, filled up with what is never marked.
#[cold]
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b'.'; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// What a backslash begins.
struct Escape {
    /// How many bytes it takes.
    length: usize,
    /// How many bytes it stands for.
    size: usize,
    /// These.
    stands_for: [u8; 4],
}

impl Escape {
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let byte = match text.get(at + 1)? {
            b'n' => b'\n',
            letter @ (b'"' | b'\\' | b'/') => *letter,
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            b'u' => return Self::of_unit(text, at),
            _ => return None,
        };
        Some(Self { length: 2, size: 1, stands_for: [byte, 0, 0, 0] })
    }

    /// A `\u`, with its partner where it has one.
    fn of_unit(text: &[u8], at: usize) -> Option<Self> {
        let first = unit(text, at)?;
        if let (0xD800..0xDC00, Some(b"\\u")) = (first, text.get(at + 6..at + 8))
            && let second @ 0xDC00..0xE000 = unit(text, at + 6)?
        {
            let both = 0x1_0000 + ((first - 0xD800) << 10 | (second - 0xDC00));
            return Some(Self::of_char(12, both));
        }
        Some(Self::of_char(6, first))
    }

    /// A character as UTF-8 writes it, and would write a surrogate without a partner.
    fn of_char(length: usize, char: u32) -> Self {
        let rest = |shift: u32| 0x80 | (char >> shift & 0x3F) as u8;
        let (size, stands_for) = match char {
            0..0x80 => (1, [char as u8, 0, 0, 0]),
            0x80..0x800 => (2, [0xC0 | (char >> 6) as u8, rest(0), 0, 0]),
            0x800..0x1_0000 => (3, [0xE0 | (char >> 12) as u8, rest(6), rest(0), 0]),
            _ => (4, [0xF0 | (char >> 18) as u8, rest(12), rest(6), rest(0)]),
        };
        Self { length, size, stands_for }
    }
}

/// The four hexadecimal digits of the `\u` at a place.
fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digit = |value: u32, digit: &u8| char::from(*digit).to_digit(16).map(|digit| value << 4 | digit);
    text.get(at + 2..at + 6)?.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            fields::{Elements, Fields, Value},
            worded,
        },
        *,
    };

    /// A string as serde_json gives it in bytes.
    #[derive(Default)]
    struct Heard(Vec<u8>);

    impl<'v> Fields<'v> for Heard {
        fn field<V: Value<'v>>(&mut self, _: &str, value: V) -> Result<(), V::Error> {
            value.list(self)
        }
    }

    impl<'v> Elements<'v> for Heard {
        fn element<V: Value<'v>>(&mut self, _: usize, value: V) -> Result<(), V::Error> {
            value.skip()
        }

        fn text(&mut self, _: usize) {}

        fn listens(&self) -> bool {
            true
        }

        fn piece(&mut self, piece: &[u8]) {
            self.0.extend_from_slice(piece);
        }
    }

    /// The end of a string and its inside, unescaped.
    fn passed(text: &str) -> Option<(usize, Vec<u8>)> {
        let Passed { end, bytes } = pass(text.as_bytes(), 1)?;
        let mut inside = Vec::new();
        pieces(&text.as_bytes()[1..end - 1], |piece| inside.extend_from_slice(piece));
        assert_eq!(bytes, inside.len(), "{text:?}");
        Some((end, inside))
    }

    /// The same by serde_json, which takes control characters in bytes and not in what it ignores.
    fn expected(text: &str) -> Option<(usize, Vec<u8>)> {
        let mut ignored = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        ignored.next()?.ok()?;
        let end = ignored.byte_offset();
        let (object, mut heard) = (format!("{{\"x\":{}}}", &text[..end]), Heard::default());
        worded::read(&object, &mut heard).ok()?;
        Some((end, heard.0))
    }

    #[test]
    fn each_byte_is_known_at_each_place() {
        for place in 1..40 {
            for byte in 0..0x80 {
                let mut text = "a".repeat(48);
                text.replace_range(0..1, "\"");
                text.replace_range(place..=place, char::from(byte).encode_utf8(&mut [0; 4]));
                text.push('"');
                assert_eq!(passed(&text), expected(&text), "{text:?}");
            }
        }
    }

    #[test]
    fn each_escape_is_known() {
        for letter in 0..0x80 {
            let text = format!("\"\\{}\"", char::from(letter));
            assert_eq!(passed(&text), expected(&text), "{text:?}");
        }
        for unit in (0..0x1_0000).step_by(7) {
            let text = format!("\"\\u{unit:04x}\\ud800\\u{unit:04X}\\udc00\"");
            assert_eq!(passed(&text), expected(&text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn ends_where_serde_json_ends_it(
            pieces in prop::collection::vec("[ !#a\u{7f}\u{80}é世\u{1F600}]{0,20}|[\\\\\"]|\\\\[\"\\\\nu]|\u{1f}|\\\\u[dD][89c][0-9a-g]{2}|\\\\u[0-9a-f]{0,4}", 0..12),
        ) {
            let text = format!("\"{}", pieces.concat());
            prop_assert_eq!(passed(&text), expected(&text));
            let text = text + "\"";
            prop_assert_eq!(passed(&text), expected(&text));
        }
    }
}
