//! How large a request is thought to be before its answer is known, learned from answers.
//!
//! Input: bytes of text times a rate of the model, and a fixed part for what is not text. Output: what this key had of
//! this model lately, near the upper end. Decides nothing about limits; what a small bucket does with it is in `terms`.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use table::ObjectRef;

/// How fast the estimates follow what is seen: the weight of the newest answer.
const WEIGHT: f64 = 0.2;

/// Output tokens before anything is known of a key and model.
const FIRST_OUTPUT: f64 = 256.0;

/// Standard deviations above the mean under which 95 of 100 values lie.
const P95: f64 = 1.645;

/// Models, and pairs of key and model, that are remembered at most; beyond, all are forgotten and learned anew.
const MOST_REMEMBERED: usize = 100_000;

/// Texts shorter than this say more about wrappings than about the rate.
const SHORTEST_LESSON: usize = 200;

const PER_REQUEST: u64 = 3;
const PER_MESSAGE: u64 = 4;
const PER_TOOL: u64 = 12;
const PER_IMAGE: u64 = 1_000;

/// Tokens a byte of text, by what a model's name contains; the first that matches holds.
const FAMILIES: [(&str, f64); 8] = [
    ("claude", 0.30),
    ("gpt", 0.25),
    ("gemini", 0.25),
    ("mistral", 0.28),
    ("llama", 0.26),
    ("qwen", 0.27),
    ("deepseek", 0.27),
    ("embed", 0.25),
];

/// Tokens a byte of text of a model of no known family.
const OTHER_FAMILY: f64 = 0.28;

/// The rate of a text lies between these, whatever one odd answer says.
const RATES: (f64, f64) = (0.02, 2.0);

/// What the shallow reading of a request says of its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of all texts.
    pub text_bytes: usize,
    /// Messages.
    pub messages: usize,
    /// Tools that are defined.
    pub tools: usize,
    /// Images.
    pub images: usize,
    /// The most tokens of the answer, where the caller says.
    pub max_output: Option<u64>,
}

/// How many tokens a request is thought to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of the input; never zero.
    pub input: u64,
    /// Tokens of the output; never above what the caller asked for.
    pub output: u64,
}

impl Estimate {
    /// Input and output.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Learns from answers how large requests are.
#[derive(Debug, Default)]
pub struct Estimator {
    learned: Mutex<Learned>,
}

#[derive(Debug, Default)]
struct Learned {
    rates: HashMap<Arc<str>, f64>,
    outputs: HashMap<ObjectRef, HashMap<Arc<str>, Spread>>,
    pairs: usize,
}

/// Mean and variance of a stream of values, the newest weighing most.
#[derive(Clone, Copy, Debug)]
struct Spread {
    mean: f64,
    variance: f64,
}

impl Estimator {
    /// An estimator that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a request of this key to this model will take.
    pub fn estimate(&self, key: &ObjectRef, model: &str, sizes: &Sizes) -> Estimate {
        let learned = self.learned.lock();
        let output = learned.outputs.get(key).and_then(|models| models.get(model)).map_or(FIRST_OUTPUT, Spread::p95);
        let output = whole(output).max(1).min(sizes.max_output.unwrap_or(u64::MAX));
        Estimate { input: input_tokens(sizes, learned.rate(model)), output }
    }

    /// Tokens of a text of which nobody counted them.
    pub fn tokens_of_text(&self, model: &str, bytes: u64) -> u64 {
        whole((bytes as f64 * self.learned.lock().rate(model)).ceil())
    }

    /// Takes in what a request really took. To be called with counted tokens only, never with estimated ones.
    pub fn learn(&self, key: &ObjectRef, model: &str, sizes: &Sizes, input: u64, output: u64) {
        let mut learned = self.learned.lock();
        learned.make_room();
        // An image's tokens depend on its pixels, so they would spoil the rate of the text.
        if sizes.text_bytes >= SHORTEST_LESSON && sizes.images == 0 && input > 0 {
            learned.learn_rate(model, sizes, input);
        }
        learned.learn_output(key, model, output);
    }
}

impl Learned {
    fn rate(&self, model: &str) -> f64 {
        self.rates.get(model).copied().unwrap_or_else(|| family(model))
    }

    fn learn_rate(&mut self, model: &str, sizes: &Sizes, input: u64) {
        let text = input.saturating_sub(fixed_tokens(sizes));
        let seen = (text as f64 / sizes.text_bytes as f64).clamp(RATES.0, RATES.1);
        let known = self.rate(model);
        self.rates.insert(model.into(), known + WEIGHT * (seen - known));
    }

    fn learn_output(&mut self, key: &ObjectRef, model: &str, output: u64) {
        if !self.outputs.contains_key(key) {
            self.outputs.insert(key.clone(), HashMap::new());
        }
        let models = self.outputs.get_mut(key).expect("it was inserted above");
        match models.get_mut(model) {
            Some(spread) => spread.take(output as f64),
            None => {
                let mut spread = Spread { mean: FIRST_OUTPUT, variance: 0.0 };
                spread.take(output as f64);
                models.insert(model.into(), spread);
                self.pairs += 1;
            }
        }
    }

    fn make_room(&mut self) {
        if self.rates.len() >= MOST_REMEMBERED {
            self.rates.clear();
        }
        if self.pairs >= MOST_REMEMBERED {
            self.outputs.clear();
            self.pairs = 0;
        }
    }
}

impl Spread {
    fn take(&mut self, value: f64) {
        let away = value - self.mean;
        self.mean += WEIGHT * away;
        self.variance = (1.0 - WEIGHT) * (self.variance + WEIGHT * away * away);
    }

    fn p95(&self) -> f64 {
        self.mean + P95 * self.variance.sqrt()
    }
}

fn input_tokens(sizes: &Sizes, rate: f64) -> u64 {
    whole((sizes.text_bytes as f64 * rate).ceil()).saturating_add(fixed_tokens(sizes))
}

fn fixed_tokens(sizes: &Sizes) -> u64 {
    let many = |count: usize, each: u64| (count as u64).saturating_mul(each);
    PER_REQUEST
        .saturating_add(many(sizes.messages, PER_MESSAGE))
        .saturating_add(many(sizes.tools, PER_TOOL))
        .saturating_add(many(sizes.images, PER_IMAGE))
}

fn family(model: &str) -> f64 {
    let known = |(part, _): &&(&str, f64)| model.contains(part);
    FAMILIES.iter().find(known).map_or(OTHER_FAMILY, |(_, rate)| *rate)
}

/// Saturates; what is not a number is zero.
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectRef {
        ObjectRef::new("team", name)
    }

    fn text(bytes: usize) -> Sizes {
        Sizes { text_bytes: bytes, messages: 1, ..Sizes::default() }
    }

    #[test]
    fn a_request_without_recognisable_text_still_reserves() {
        let estimate = Estimator::new().estimate(&key("a"), "m", &Sizes::default());
        assert_eq!(estimate, Estimate { input: 3, output: 256 });
    }

    #[test]
    fn starts_from_the_rate_of_the_family() {
        let estimator = Estimator::new();
        assert_eq!(estimator.estimate(&key("a"), "gpt-5", &text(1_000)).input, 257);
        assert_eq!(estimator.estimate(&key("a"), "claude-opus", &text(1_000)).input, 307);
    }

    #[test]
    fn what_is_asked_for_bounds_the_output_and_does_not_raise_it() {
        let estimator = Estimator::new();
        let asking = |max| Sizes { max_output: Some(max), ..text(100) };
        assert_eq!(estimator.estimate(&key("a"), "m", &asking(10)).output, 10);
        assert_eq!(estimator.estimate(&key("a"), "m", &asking(128_000)).output, 256);
        assert_eq!(estimator.estimate(&key("a"), "m", &asking(0)).output, 0);
    }

    #[test]
    fn the_output_of_a_key_follows_what_it_had_lately_near_the_upper_end() {
        let estimator = Estimator::new();
        for turn in 0..200 {
            estimator.learn(&key("a"), "m", &text(100), 30, if turn % 2 == 0 { 900 } else { 1_100 });
        }
        let learned = estimator.estimate(&key("a"), "m", &text(100)).output;
        assert!((1_050..1_250).contains(&learned), "{learned}");
        assert_eq!(estimator.estimate(&key("b"), "m", &text(100)).output, 256);
    }

    #[test]
    fn the_rate_of_a_model_follows_real_usage() {
        let estimator = Estimator::new();
        for _ in 0..50 {
            estimator.learn(&key("a"), "m", &text(10_000), 5_007, 10);
        }
        let learned = estimator.estimate(&key("b"), "m", &text(10_000)).input;
        assert!((4_950..5_060).contains(&learned), "{learned}");
    }

    #[test]
    fn images_and_short_texts_teach_no_rate() {
        let estimator = Estimator::new();
        estimator.learn(&key("a"), "gpt-5", &Sizes { images: 1, ..text(10_000) }, 90_000, 10);
        estimator.learn(&key("a"), "gpt-5", &text(10), 5_000, 10);
        assert_eq!(estimator.estimate(&key("a"), "gpt-5", &text(1_000)).input, 257);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let estimator = Estimator::new();
        for turn in 0..(2 * MOST_REMEMBERED + 10) {
            estimator.learn(&key("a"), &format!("m-{turn}"), &text(1_000), 300, 10);
        }
        let learned = estimator.learned.lock();
        assert!(learned.rates.len() <= MOST_REMEMBERED && learned.pairs <= MOST_REMEMBERED);
    }
}
