//! MessagePack, as far as a call is written piece by piece: numbers, texts of any bytes, and how lists begin.

/// A number.
pub(super) fn number(to: &mut Vec<u8>, number: u64) {
    match number {
        0..0x80 => to.push(number as u8),
        0x80..0x100 => to.extend_from_slice(&[0xcc, number as u8]),
        0x100..0x1_0000 => tagged(to, 0xcd, (number as u16).to_be_bytes()),
        0x1_0000..0x1_0000_0000 => tagged(to, 0xce, (number as u32).to_be_bytes()),
        0x1_0000_0000.. => tagged(to, 0xcf, number.to_be_bytes()),
    }
}

/// The number -1, which says that there is none.
pub(super) fn none(to: &mut Vec<u8>) {
    to.push(0xff);
}

/// A text, which Lua takes as it is.
pub(super) fn text(to: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        0..0x20 => to.push(0xa0 | text.len() as u8),
        0x20..0x100 => to.extend_from_slice(&[0xd9, text.len() as u8]),
        0x100..0x1_0000 => tagged(to, 0xda, (text.len() as u16).to_be_bytes()),
        0x1_0000.. => tagged(to, 0xdb, (text.len() as u32).to_be_bytes()),
    }
    to.extend_from_slice(text);
}

/// The beginning of a list of so many.
pub(super) fn list(to: &mut Vec<u8>, length: usize) {
    match length {
        0..0x10 => to.push(0x90 | length as u8),
        0x10..0x1_0000 => tagged(to, 0xdc, (length as u16).to_be_bytes()),
        0x1_0000.. => tagged(to, 0xdd, (length as u32).to_be_bytes()),
    }
}

fn tagged<const N: usize>(to: &mut Vec<u8>, tag: u8, bytes: [u8; N]) {
    to.push(tag);
    to.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        for exponent in 0..64 {
            for value in [(1_u64 << exponent) - 1, 1 << exponent, u64::MAX >> exponent] {
                let mut bytes = Vec::new();
                number(&mut bytes, value);
                assert_eq!(rmp_serde::from_slice::<u64>(&bytes).unwrap(), value);
            }
        }
        for length in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
            let (mut bytes, said) = (Vec::new(), "x".repeat(length));
            text(&mut bytes, said.as_bytes());
            assert_eq!(rmp_serde::from_slice::<String>(&bytes).unwrap(), said);
            let mut bytes = Vec::new();
            list(&mut bytes, length);
            bytes.resize(bytes.len() + length, 7);
            assert_eq!(rmp_serde::from_slice::<Vec<u8>>(&bytes).unwrap(), vec![7; length]);
        }
        let mut bytes = Vec::new();
        none(&mut bytes);
        assert_eq!(rmp_serde::from_slice::<i64>(&bytes).unwrap(), -1);
    }
}
