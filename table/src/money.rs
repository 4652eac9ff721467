//! Money as integers: prices in pico-USD a token, amounts in nano-USD. No floats, and no price is not zero.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A price of one token in pico-USD (10^-12 USD). One USD per million tokens is 1,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PicoUsdPerToken(pub u64);

/// An amount of money in nano-USD (10^-9 USD). One USD is 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NanoUsd(pub u64);

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: write up to seven digits and up to six decimals, as in `12.50`")]
pub struct MoneyError(String);

impl PicoUsdPerToken {
    /// Reads a price per million tokens, as in `3.00` or `0.075`. Errs on anything but up to seven digits and six decimals.
    pub fn from_per_million(text: &str) -> Result<Self, MoneyError> {
        micros(text).map(Self)
    }
}

impl NanoUsd {
    /// Reads an amount in USD, as in `12.50`. Errs on anything but up to seven digits and six decimals.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        micros(text).map(|micros| Self(micros * 1_000))
    }
}

impl fmt::Display for NanoUsd {
    /// USD with as many decimals as it needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:09}").trim_end_matches('0'))
    }
}

fn micros(text: &str) -> Result<u64, MoneyError> {
    let wrong = || MoneyError(text.to_owned());
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || whole.len() > 7 || decimals.len() > 6 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let decimals: u64 = format!("{decimals:0<6}").parse().map_err(|_| wrong())?;
    Ok(whole * 1_000_000 + decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_amounts_and_prices_exactly() {
        assert_eq!(NanoUsd::parse("12.50"), Ok(NanoUsd(12_500_000_000)));
        assert_eq!(PicoUsdPerToken::from_per_million("0.000001"), Ok(PicoUsdPerToken(1)));
        assert_eq!(PicoUsdPerToken::from_per_million("3"), Ok(PicoUsdPerToken(3_000_000)));
    }

    #[test]
    fn refuses_what_is_not_a_plain_decimal() {
        for text in ["", ".", "1.", ".5", "-1", "1e3", "1.0000001", "12345678", "1,5", " 1"] {
            assert!(NanoUsd::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn prints_amounts_without_needless_zeros() {
        assert_eq!(NanoUsd(12_500_000_000).to_string(), "12.5");
        assert_eq!(NanoUsd(1).to_string(), "0.000000001");
        assert_eq!(NanoUsd(7_000_000_000).to_string(), "7");
    }
}
