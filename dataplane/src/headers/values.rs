//! Values of headers: those that are always the same, and others, written one behind the other into one piece of memory, so
//! that a head takes one allocation for what it says, not one for each value.

use std::{fmt::Write, time::Duration};

use bytes::BytesMut;
use http::HeaderValue;
use jiff::Timestamp;

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const EVENT_STREAM_UTF8: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
pub(super) const GZIP: HeaderValue = HeaderValue::from_static("gzip");
pub(super) const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
pub(super) const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
pub(super) const NO: HeaderValue = HeaderValue::from_static("no");
pub(super) const ONE: HeaderValue = HeaderValue::from_static("1");
pub(super) const DEGRADED: HeaderValue = HeaderValue::from_static("degraded");

/// The API version of Anthropic's shape where the caller names none.
pub(super) const DEFAULT_ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Says who asks, where the caller's own word is not passed on.
pub(super) const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("relay/", env!("CARGO_PKG_VERSION")));

/// Characters of a value that others wrote.
const LONGEST: usize = 1_024;

/// Where values are written. What a method writes is visible ASCII and spaces alone.
pub(crate) struct Values(BytesMut);

impl Values {
    /// Room for values of so many bytes together; more takes another allocation.
    pub(super) fn of(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// A text, with `?` for all that a header cannot hold, and bounded.
    pub(super) fn text(&mut self, text: &str) -> HeaderValue {
        let is_held = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic();
        if text.len() <= LONGEST && text.as_bytes().iter().all(is_held) {
            self.put(text);
        } else {
            let held = |c: char| if c == ' ' || c.is_ascii_graphic() { c as u8 } else { b'?' };
            self.0.extend(text.chars().take(LONGEST).map(held));
        }
        self.end()
    }

    /// A text as it is; absent: a header cannot hold it.
    pub(super) fn unchanged(&mut self, text: &str) -> Option<HeaderValue> {
        self.put(text);
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }

    /// A number.
    pub(super) fn number(&mut self, number: u64) -> HeaderValue {
        self.put_number(number);
        self.end()
    }

    /// Milliseconds to the third place.
    pub(super) fn millis(&mut self, duration: Duration) -> HeaderValue {
        let below_a_second = u64::from(duration.subsec_nanos() + 500) / 1_000;
        let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(below_a_second);
        self.put_number(micros / 1_000);
        let rest = micros % 1_000;
        self.put(match rest {
            0..10 => ".00",
            10..100 => ".0",
            _ => ".",
        });
        self.number(rest)
    }

    /// A wait as OpenAI's headers spell it: `1m30s`, `120ms`, rounded up.
    pub(super) fn wait(&mut self, wait: Duration) -> HeaderValue {
        let below_a_second = u64::from(wait.subsec_nanos().div_ceil(1_000_000));
        let millis = wait.as_secs().saturating_mul(1_000).saturating_add(below_a_second);
        if millis < 1_000 {
            self.put_with(millis, "ms");
            return self.end();
        }
        let seconds = millis.div_ceil(1_000);
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        if hours > 0 {
            self.put_with(hours, "h");
        }
        if hours > 0 || minutes > 0 {
            self.put_with(minutes, "m");
        }
        self.put_with(seconds % 60, "s");
        self.end()
    }

    /// A time of day, in UTC.
    pub(super) fn moment(&mut self, at: Timestamp) -> HeaderValue {
        write!(self.0, "{at}").expect("it grows as it must");
        self.end()
    }

    fn put_with(&mut self, number: u64, unit: &str) {
        self.put_number(number);
        self.put(unit);
    }

    fn put_number(&mut self, number: u64) {
        self.put(itoa::Buffer::new().format(number));
    }

    fn put(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn end(&mut self) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.0.split().freeze()).expect("only visible ASCII and spaces were written")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(value: &HeaderValue) -> &str {
        value.to_str().expect("visible ASCII")
    }

    #[test]
    fn values_lie_side_by_side_and_grow_beyond_the_room_that_was_thought_of() {
        let mut values = Values::of(8);
        let told = [values.text("short"), values.number(u64::MAX), values.text(""), values.text(&"x".repeat(100))];
        let told = told.map(|value| shown(&value).to_owned());
        assert_eq!(told, ["short", "18446744073709551615", "", &"x".repeat(100)]);
    }

    #[test]
    fn a_text_that_a_header_cannot_hold_is_left_out_and_spoils_nothing() {
        let mut values = Values::of(64);
        let told = [values.unchanged("msg_1"), values.unchanged("a\r\nx-evil: 1"), values.unchanged("msg_2")];
        assert_eq!(
            told.map(|value| value.map(|value| shown(&value).to_owned())),
            [Some("msg_1".into()), None, Some("msg_2".into())]
        );
    }

    #[test]
    fn milliseconds_have_three_places() {
        let millis = |nanos| shown(&Values::of(0).millis(Duration::from_nanos(nanos))).to_owned();
        for (nanos, expected) in [
            (0, "0.000"),
            (499, "0.000"),
            (500, "0.001"),
            (7_000, "0.007"),
            (1_250_000, "1.250"),
            (999_999_600, "1000.000"),
            (12_034_056_000, "12034.056"),
        ] {
            assert_eq!(millis(nanos), expected, "{nanos}");
        }
    }

    #[test]
    fn waits_are_spelled_as_openai_does() {
        let wait = |millis| shown(&Values::of(0).wait(Duration::from_millis(millis))).to_owned();
        for (millis, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_001, "2s"),
            (60_000, "1m0s"),
            (90_500, "1m31s"),
            (3_600_000, "1h0m0s"),
            (3_601_000, "1h0m1s"),
            (360_061_000, "100h1m1s"),
        ] {
            assert_eq!(wait(millis), expected, "{millis}");
        }
        assert_eq!(shown(&Values::of(0).wait(Duration::from_nanos(1))), "1ms");
    }

    #[test]
    fn a_long_text_is_cut_by_its_characters() {
        let long = "ü".repeat(LONGEST + 1);
        assert_eq!(shown(&Values::of(0).text(&long)), "?".repeat(LONGEST));
        assert_eq!(shown(&Values::of(0).text(&"x".repeat(LONGEST + 1))), "x".repeat(LONGEST));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_one_question_mark_for_each_character_that_a_header_cannot_hold(text in "\\PC{0,40}|(?s).{0,40}") {
            let expected: String =
                text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
            let value = Values::of(0).text(&text);
            prop_assert_eq!(shown(&value), expected);
        }
    }
}
