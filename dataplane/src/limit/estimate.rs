//! How large a request is thought to be before its answer is known, learned from answers.
//!
//! Input: bytes of text times a rate of the model, and a fixed part for what is not text. Output: what this key had of
//! this model lately, near the upper end. Decides nothing about limits; what a small bucket does with it is in `terms`.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

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

/// Whether a byte is the first of a part in [`FAMILIES`].
const BEGINS_FAMILY: [bool; 256] = {
    let (mut begins, mut family) = ([false; 256], 0);
    while family < FAMILIES.len() {
        begins[FAMILIES[family].0.as_bytes()[0] as usize] = true;
        family += 1;
    }
    begins
};

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
    outputs: foldhash::HashMap<ObjectRef, HashMap<Arc<str>, Spread>>,
    pairs: usize,
    /// Absent until somebody asks: an estimator whose lessons nobody shares keeps no list of them.
    changes: Option<Changes>,
}

/// What was learned since it was last told.
#[derive(Debug, Default)]
struct Changes {
    rates: HashSet<Arc<str>>,
    outputs: HashMap<ObjectRef, HashSet<Arc<str>>>,
}

/// Mean and variance of a stream of values, the newest weighing most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean; never negative.
    pub mean: f64,
    /// The variance; never negative.
    pub variance: f64,
}

/// What an estimator learned, to be told to others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lessons {
    /// Tokens a byte of text, by model.
    pub rates: Vec<(Arc<str>, f64)>,
    /// Output tokens, by relay key and model.
    pub outputs: Vec<(ObjectRef, Arc<str>, Spread)>,
}

impl Lessons {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.outputs.is_empty()
    }
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

    /// What it learned since it was last asked; everything it knows where it is asked for the first time.
    pub fn drain(&self) -> Lessons {
        let mut learned = self.learned.lock();
        match learned.changes.replace(Changes::default()) {
            Some(changes) => learned.changed(&changes),
            None => learned.everything(),
        }
    }

    /// These lessons reached nobody: they are told once more, as they are known by then.
    pub fn put_back(&self, lessons: &Lessons) {
        let mut learned = self.learned.lock();
        let Some(changes) = &mut learned.changes else { return };
        for (model, _) in &lessons.rates {
            changes.rate(model);
        }
        for (key, model, _) in &lessons.outputs {
            changes.output(key, model);
        }
    }

    /// Adopts what another process learned, where this one knows nothing yet; it counts as told. What cannot have been learned (a negative
    /// variance, a rate out of all bounds) is passed over.
    pub fn take_in(&self, lessons: Lessons) {
        let mut learned = self.learned.lock();
        for (model, rate) in lessons.rates {
            if learned.rates.len() < MOST_REMEMBERED && (RATES.0..=RATES.1).contains(&rate) {
                learned.rates.entry(model).or_insert(rate);
            }
        }
        for (key, model, spread) in lessons.outputs {
            if learned.pairs < MOST_REMEMBERED && spread.is_possible() {
                learned.adopt_output(key, model, spread);
            }
        }
    }
}

impl Changes {
    fn rate(&mut self, model: &str) {
        if !self.rates.contains(model) {
            self.rates.insert(model.into());
        }
    }

    fn output(&mut self, key: &ObjectRef, model: &str) {
        if !self.outputs.contains_key(key) {
            self.outputs.insert(key.clone(), HashSet::new());
        }
        let models = self.outputs.get_mut(key).expect("it was inserted above");
        if !models.contains(model) {
            models.insert(model.into());
        }
    }
}

impl Learned {
    fn everything(&self) -> Lessons {
        let rates = self.rates.iter().map(|(model, rate)| (model.clone(), *rate));
        let of_key = |(key, models): (&ObjectRef, &HashMap<Arc<str>, Spread>)| {
            models.iter().map(|(model, spread)| (key.clone(), model.clone(), *spread)).collect::<Vec<_>>()
        };
        Lessons { rates: rates.collect(), outputs: self.outputs.iter().flat_map(of_key).collect() }
    }

    fn changed(&self, changes: &Changes) -> Lessons {
        let rate = |model: &Arc<str>| Some((model.clone(), *self.rates.get(model)?));
        let mut outputs = Vec::new();
        for (key, models) in &changes.outputs {
            let Some(known) = self.outputs.get(key) else { continue };
            let spread = |model: &Arc<str>| Some((key.clone(), model.clone(), *known.get(model)?));
            outputs.extend(models.iter().filter_map(spread));
        }
        Lessons { rates: changes.rates.iter().filter_map(rate).collect(), outputs }
    }

    fn adopt_output(&mut self, key: ObjectRef, model: Arc<str>, spread: Spread) {
        if let Entry::Vacant(place) = self.outputs.entry(key).or_default().entry(model) {
            place.insert(spread);
            self.pairs += 1;
        }
    }

    fn rate(&self, model: &str) -> f64 {
        self.rates.get(model).copied().unwrap_or_else(|| family(model))
    }

    fn learn_rate(&mut self, model: &str, sizes: &Sizes, input: u64) {
        let text = input.saturating_sub(fixed_tokens(sizes));
        let seen = (text as f64 / sizes.text_bytes as f64).clamp(RATES.0, RATES.1);
        let known = self.rate(model);
        self.rates.insert(model.into(), known + WEIGHT * (seen - known));
        if let Some(changes) = &mut self.changes {
            changes.rate(model);
        }
    }

    fn learn_output(&mut self, key: &ObjectRef, model: &str, output: u64) {
        if let Some(changes) = &mut self.changes {
            changes.output(key, model);
        }
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
            self.changes.iter_mut().for_each(|changes| changes.rates.clear());
        }
        if self.pairs >= MOST_REMEMBERED {
            self.outputs.clear();
            self.pairs = 0;
            self.changes.iter_mut().for_each(|changes| changes.outputs.clear());
        }
    }
}

impl Spread {
    fn is_possible(&self) -> bool {
        let natural = |value: f64| value.is_finite() && value >= 0.0;
        natural(self.mean) && natural(self.variance)
    }

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
    // Names are short: a search that prepares itself takes longer than one that just looks, once at each byte.
    let model = model.as_bytes();
    let mut first = FAMILIES.len();
    for at in (0..model.len()).filter(|at| BEGINS_FAMILY[usize::from(model[*at])]) {
        let begins_as = |(part, _): &(&str, f64)| model[at..].starts_with(part.as_bytes());
        first = FAMILIES[..first].iter().position(begins_as).unwrap_or(first);
    }
    FAMILIES.get(first).map_or(OTHER_FAMILY, |(_, rate)| *rate)
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
    fn of_two_families_in_a_name_the_one_that_is_listed_first_holds_wherever_it_stands() {
        for (one, other) in FAMILIES.iter().flat_map(|one| FAMILIES.iter().map(move |other| (one, other))) {
            let listed_first = FAMILIES.iter().find(|(part, _)| [one.0, other.0].contains(part)).unwrap();
            for name in [format!("{}{}", one.0, other.0), format!("c-g{}/{}:m", one.0, other.0)] {
                assert_eq!(family(&name), listed_first.1, "{name}");
            }
        }
        for name in ["", "c", "cla", "gp-t", "CLAUDE", "ge\u{301}mini", "lame"] {
            assert_eq!(family(name), OTHER_FAMILY, "{name}");
        }
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

    fn lessons(key_name: &str, model: &str, mean: f64) -> Lessons {
        let spread = Spread { mean, variance: 0.0 };
        Lessons { rates: vec![(model.into(), 0.5)], outputs: vec![(key(key_name), model.into(), spread)] }
    }

    #[test]
    fn the_first_question_gets_all_lessons_and_later_ones_what_is_new() {
        let estimator = Estimator::new();
        estimator.learn(&key("a"), "m", &text(10_000), 5_007, 256);
        let spread = Spread { mean: 256.0, variance: 0.0 };
        let rate = OTHER_FAMILY + WEIGHT * (0.5 - OTHER_FAMILY);
        let all = Lessons { rates: vec![("m".into(), rate)], outputs: vec![(key("a"), "m".into(), spread)] };
        assert_eq!(estimator.drain(), all);
        assert!(estimator.drain().is_empty());
        estimator.learn(&key("b"), "m", &text(10), 5, 256);
        estimator.learn(&key("b"), "m", &text(10), 5, 256);
        let new = Lessons { rates: vec![], outputs: vec![(key("b"), "m".into(), spread)] };
        assert_eq!(estimator.drain(), new);
    }

    #[test]
    fn lessons_that_reached_nobody_are_told_again_as_they_are_by_then() {
        let estimator = Estimator::new();
        estimator.learn(&key("a"), "m", &text(10_000), 5_007, 256);
        let lost = estimator.drain();
        estimator.put_back(&lost);
        assert_eq!(estimator.drain(), lost);
        estimator.put_back(&lost);
        estimator.learn(&key("a"), "m", &text(10_000), 5_007, 2_560);
        let newer = estimator.drain();
        assert!(newer.rates[0].1 > lost.rates[0].1 && newer.outputs[0].2.mean > 256.0, "{newer:?}");
    }

    #[test]
    fn a_lesson_of_others_helps_where_nothing_is_known() {
        let estimator = Estimator::new();
        estimator.take_in(lessons("a", "m", 1_000.0));
        let estimate = estimator.estimate(&key("a"), "m", &text(1_000));
        assert_eq!(estimate, Estimate { input: 507, output: 1_000 });
        assert_eq!(estimator.estimate(&key("b"), "m", &text(1_000)).output, 256);
    }

    #[test]
    fn a_lesson_of_others_never_replaces_ones_own_and_is_not_told_back() {
        let estimator = Estimator::new();
        estimator.learn(&key("a"), "m", &text(10_000), 3_007, 256);
        let own = estimator.drain();
        estimator.take_in(lessons("a", "m", 9_000.0));
        estimator.take_in(lessons("a", "other", 9_000.0));
        let estimate = estimator.estimate(&key("a"), "m", &text(10_000));
        assert_eq!((estimate.output, own.outputs[0].2.mean), (256, 256.0));
        assert!((2_800..3_100).contains(&estimate.input), "{estimate:?}");
        assert!(estimator.drain().is_empty());
    }

    #[test]
    fn lessons_that_nobody_can_have_learned_are_passed_over() {
        let estimator = Estimator::new();
        for (rate, mean, variance) in [(f64::NAN, -1.0, 0.0), (50.0, f64::INFINITY, 0.0), (-1.0, 1.0, f64::NAN)] {
            let spread = Spread { mean, variance };
            let outputs = vec![(key("a"), "m".into(), spread)];
            estimator.take_in(Lessons { rates: vec![("m".into(), rate)], outputs });
        }
        assert_eq!(estimator.estimate(&key("a"), "m", &text(1_000)), Estimate { input: 287, output: 256 });
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let estimator = Estimator::new();
        assert!(estimator.drain().is_empty());
        for turn in 0..(2 * MOST_REMEMBERED + 10) {
            estimator.learn(&key("a"), &format!("m-{turn}"), &text(1_000), 300, 10);
        }
        let learned = estimator.learned.lock();
        assert!(learned.rates.len() <= MOST_REMEMBERED && learned.pairs <= MOST_REMEMBERED);
        let changes = learned.changes.as_ref().expect("it was asked");
        assert!(changes.rates.len() <= MOST_REMEMBERED && changes.outputs[&key("a")].len() <= MOST_REMEMBERED);
    }
}
