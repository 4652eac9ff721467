//! Passes over the strings of JSON without unescaping them: they are most of a body.

use memchr::memchr;
use wide::u8x16;

use crate::skim::{controls, stops};

/// A string that was passed over.
pub(super) struct Passed {
    /// Where it ends, behind its quote.
    pub(super) end: usize,
    /// How many bytes it has, unescaped. Surrogates without a partner have three.
    pub(super) bytes: usize,
}

/// Passes over the string whose inside begins at `start`. None: it does not end, has an escape that is none, or has a
/// control character.
#[inline]
pub(super) fn pass(text: &[u8], start: usize) -> Option<Passed> {
    // Most strings are keys and words, which end before it pays to look far.
    let mut at = start;
    for _ in 0..SHORT {
        let Some(near) = text.get(at..)?.first_chunk() else { break };
        match stops(*near) {
            0 => at += near.len(),
            stops => {
                at += stops.trailing_zeros() as usize;
                match text[at] {
                    b'"' => return Some(Passed { end: at + 1, bytes: at - start }),
                    b'\\' => break,
                    _ => return None,
                }
            }
        }
    }
    pass_long(text, start, at)
}

/// The same from a place on, before which it has neither an end nor an escape. Apart, so that a short string is cheap.
#[inline(never)]
fn pass_long(text: &[u8], start: usize, from: usize) -> Option<Passed> {
    let (mut block, mut carried, mut escapes) = (from, 0, Escapes::default());
    while block < text.len() {
        let bytes = text[block..].first_chunk().copied().unwrap_or_else(|| padded(&text[block..]));
        let Marks { stops, backslashes } = Marks::of(&bytes);
        let escaped = escaped(backslashes, &mut carried);
        let stops = stops & !escaped;
        let before_end = (stops & stops.wrapping_neg()).wrapping_sub(1);
        let mut letters = escaped & before_end;
        while letters != 0 {
            let place = letters.trailing_zeros() as usize;
            match STANDS_FOR[usize::from(bytes[place])] {
                0 => escapes.take_unit(text, block + place)?,
                _ => escapes.saved += 1,
            }
            letters &= letters - 1;
        }
        if stops != 0 {
            let end = block + stops.trailing_zeros() as usize;
            return (text[end] == b'"').then(|| Passed { end: end + 1, bytes: end - start - escapes.saved });
        }
        block += BLOCK;
    }
    None
}

/// Which bytes of a block stand behind a backslash that stands for none itself. `carried` is one where the first does, and
/// becomes one where the first of the next block will.
fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslashes == 0 {
        return std::mem::take(carried);
    }
    let backslashes = backslashes & !*carried;
    let behind = backslashes << 1 | *carried;
    // A row of backslashes that begins at an odd place, added to itself, ends one place further than it would: so the
    // parity of its end tells its length's.
    let begin_odd = backslashes & !EVEN & !behind;
    let (sum, over) = begin_odd.overflowing_add(backslashes);
    *carried = u64::from(over);
    (EVEN ^ sum << 1) & behind
}

/// The escapes of a string, so far.
struct Escapes {
    /// How many bytes fewer it has, unescaped.
    saved: usize,
    /// Where the letter of an escape would stand that makes a pair with the last one.
    partner: usize,
}

impl Default for Escapes {
    fn default() -> Self {
        Self { saved: 0, partner: usize::MAX }
    }
}

impl Escapes {
    /// Takes a `\u` by the place of its `u`; none: another letter stands there. Surrogates have three bytes each without a partner, four together with it.
    fn take_unit(&mut self, text: &[u8], at: usize) -> Option<()> {
        const LENGTH: usize = 6;
        let unit = text.get(at).filter(|letter| **letter == b'u').and_then(|_| unit(text, at - 1))?;
        self.saved += match unit {
            0..0x80 => LENGTH - 1,
            0x80..0x800 => LENGTH - 2,
            0xDC00..0xE000 if at == self.partner => LENGTH - 1,
            _ => LENGTH - 3,
        };
        self.partner = if matches!(unit, 0xD800..0xDC00) { at + LENGTH } else { usize::MAX };
        Some(())
    }
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

/// How many bytes of a long string are compared at once.
const BLOCK: usize = 64;
/// How many pieces of sixteen bytes are looked at before a string is taken for a long one.
const SHORT: usize = 2;

/// What stands in a block: a bit for each byte.
struct Marks {
    /// Quotes and control characters.
    stops: u64,
    backslashes: u64,
}

impl Marks {
    #[inline]
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut marks = Self { stops: 0, backslashes: 0 };
        for (place, piece) in block.as_chunks::<16>().0.iter().enumerate() {
            let piece = u8x16::new(*piece);
            let ends = piece.simd_eq(u8x16::splat(b'"')) | controls(piece);
            marks.stops |= u64::from(ends.to_bitmask()) << (16 * place);
            marks.backslashes |= u64::from(piece.simd_eq(u8x16::splat(b'\\')).to_bitmask()) << (16 * place);
        }
        marks
    }
}

/// The last block, filled up with what is never marked.
#[cold]
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [b'.'; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// What the letter behind a backslash stands for where it stands for one byte; zero: it is another.
const STANDS_FOR: [u8; 256] = {
    let mut bytes = [0; 256];
    bytes[b'"' as usize] = b'"';
    bytes[b'\\' as usize] = b'\\';
    bytes[b'/' as usize] = b'/';
    bytes[b'b' as usize] = 8;
    bytes[b'f' as usize] = 12;
    bytes[b'n' as usize] = b'\n';
    bytes[b'r' as usize] = b'\r';
    bytes[b't' as usize] = b'\t';
    bytes
};

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
        match *text.get(at + 1)? {
            b'u' => Self::of_unit(text, at),
            letter => match STANDS_FOR[usize::from(letter)] {
                0 => None,
                byte => Some(Self { length: 2, size: 1, stands_for: [byte, 0, 0, 0] }),
            },
        }
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
        for place in 1..110 {
            for byte in 0..0x80 {
                let mut text = "a".repeat(120);
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
