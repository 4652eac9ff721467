//! Strings with a grammar: spans of time, sums of money, prices, instants. Each keeps what the user wrote, so that
//! GitOps tools see no drift, and reads it as an integer on demand.

use jiff::Timestamp;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::patterns;

macro_rules! text {
    ($(#[$meta:meta])* $name:ident, $max:literal, $pattern:expr $(, $keyword:literal: $value:tt)*) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// What the user wrote.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "maxLength": $max,
                    "pattern": $pattern,
                    $($keyword: $value,)*
                })
            }
        }
    };
}

text! {
    /// A span of time in the Gateway API's form: up to four numbers with units, such as `1m30s` or `250ms`. Never zero.
    Duration, 32, patterns::DURATION,
    "x-kubernetes-validations": [{"rule": "duration(self) > duration('0s')", "message": "must be longer than zero"}]
}

text! {
    /// An instant in RFC 3339's form, such as `2030-01-31T00:00:00Z`.
    Instant, 35, patterns::INSTANT,
    "format": "date-time",
    // The API server takes a list where a format is given, unless a rule looks at the value.
    "x-kubernetes-validations": [
        {"rule": "self > timestamp('1970-01-01T00:00:00Z')", "message": "must be later than 1970"}
    ]
}

text! {
    /// A sum of US dollars as a decimal string, at most 9,000,000 with six decimals.
    Amount, 14, patterns::AMOUNT
}

text! {
    /// US dollars for a million tokens as a decimal string, with six decimals at most.
    Price, 13, patterns::PRICE
}

impl Duration {
    /// The span as `std` has it; `None` when the text does not follow the grammar.
    pub fn to_std(&self) -> Option<std::time::Duration> {
        let mut rest = self.0.as_str();
        let mut millis: u64 = 0;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let count: u64 = rest[..digits].parse().ok()?;
            let (factor, tail) = unit(&rest[digits..])?;
            millis = millis.checked_add(count.checked_mul(factor)?)?;
            rest = tail;
        }
        Some(std::time::Duration::from_millis(millis))
    }
}

fn unit(text: &str) -> Option<(u64, &str)> {
    [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
        .into_iter()
        .find_map(|(name, factor)| text.strip_prefix(name).map(|tail| (factor, tail)))
}

impl Amount {
    /// The sum in nano-USD; `None` when the text does not follow the grammar.
    pub fn nano_usd(&self) -> Option<u64> {
        micros(&self.0)?.checked_mul(1_000)
    }
}

impl Price {
    /// The price of one token in pico-USD; `None` when the text does not follow the grammar.
    pub fn pico_usd_per_token(&self) -> Option<u64> {
        micros(&self.0)
    }
}

/// Millionths of a plain decimal with at most six decimals.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

impl Instant {
    /// The instant; `None` when the text is none. The last two days of the year 9999, which stand for "never", are the
    /// last instant that there is.
    pub fn timestamp(&self) -> Option<Timestamp> {
        if let Ok(timestamp) = self.0.parse() {
            return Some(timestamp);
        }
        let last_year = self.0.strip_prefix("9999-")?;
        format!("9998-{last_year}").parse::<Timestamp>().is_ok().then_some(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_their_parts() {
        let millis = |text: &str| Duration::from(text).to_std().map(|span| span.as_millis());
        assert_eq!(millis("1h2m3s4ms"), Some(3_723_004));
        assert_eq!(millis("250ms"), Some(250));
        assert_eq!(millis("0s"), Some(0));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1d", "1 s"] {
            assert_eq!(millis(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_reach_to_the_end_of_the_calendar() {
        let seconds = |text: &str| Instant::from(text).timestamp().map(Timestamp::as_second);
        assert_eq!(seconds("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(seconds("9999-12-31T23:59:59Z"), Some(Timestamp::MAX.as_second()));
        for wrong in ["", "tomorrow", "2030-02-31T00:00:00Z", "9999-12-32T00:00:00Z"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn money_is_read_as_integers() {
        assert_eq!(Amount::from("12.5").nano_usd(), Some(12_500_000_000));
        assert_eq!(Amount::from("9000000").nano_usd(), Some(9_000_000_000_000_000));
        assert_eq!(Amount::from("0.000001").nano_usd(), Some(1_000));
        assert_eq!(Price::from("3").pico_usd_per_token(), Some(3_000_000));
        assert_eq!(Price::from("0.075").pico_usd_per_token(), Some(75_000));
        for wrong in ["", ".5", "1.", "1.0000001", "-1", "1e3", "1,5"] {
            assert_eq!(Price::from(wrong).pico_usd_per_token(), None, "{wrong}");
        }
    }
}
