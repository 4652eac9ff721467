//! Writes ids as hex digits: every request has three, so it is done eight digits at a time.

/// The sixteen lower-case hex digits of a number, the highest first.
#[inline]
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let (high, low) = (eight((number >> 32) as u32), eight(number as u32));
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

/// Eight digits, one in each byte.
fn eight(number: u32) -> u64 {
    let mut spread = u64::from(number);
    spread = (spread | (spread << 16)) & 0x0000_ffff_0000_ffff;
    spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff;
    spread = (spread | (spread << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    // A digit of ten or more overflows into the next bit when six are added: letters begin 39 behind where digits would go on.
    let are_letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    spread + 0x3030_3030_3030_3030 + are_letters * 39
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_digit_stands_in_every_place() {
        for place in 0..16 {
            for digit in 0..16_u64 {
                let number = digit << (4 * place);
                assert_eq!(hex(number), format!("{number:016x}").as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn digits_are_those_that_everybody_writes(number: u64) {
            let digits = hex(number);
            let digits = std::str::from_utf8(&digits).expect("digits are ASCII");
            prop_assert_eq!(digits, format!("{number:016x}"));
        }
    }
}
