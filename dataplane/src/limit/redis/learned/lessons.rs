//! Lessons as they stand in Redis: one hash for the rates of models, and one for each namespace of relay keys. Pure.
//!
//! A rate is `<model>` -> `<tokens a byte>`, the answers to a key are `<key>/<model>` -> `<mean> <variance>`. Names of
//! keys hold no slash.

use std::{collections::BTreeMap, sync::Arc};

use table::ObjectRef;

use crate::limit::{
    estimate::{Lessons, Spread},
    redis::keys::FLEET,
};

/// The longest model id that is told of: callers may invent them.
const LONGEST_MODEL: usize = 256;

/// Fields of a hash, each followed by its value.
pub type Fields = Vec<String>;

/// The lessons by domain; rates are in that of the fleet.
pub fn by_domain(lessons: Lessons) -> BTreeMap<String, Lessons> {
    let mut domains: BTreeMap<String, Lessons> = BTreeMap::new();
    if !lessons.rates.is_empty() {
        domains.entry(FLEET.to_owned()).or_default().rates = lessons.rates;
    }
    for lesson in lessons.outputs {
        domains.entry(lesson.0.namespace.clone()).or_default().outputs.push(lesson);
    }
    domains
}

/// Lessons of one domain as fields.
pub fn fields(lessons: &Lessons) -> Fields {
    let fits = |model: &str| model.len() <= LONGEST_MODEL;
    let rates = lessons.rates.iter().filter(|(model, _)| fits(model));
    let rates = rates.map(|(model, rate)| [model.to_string(), rate.to_string()]);
    let outputs = lessons.outputs.iter().filter(|(_, model, _)| fits(model));
    let outputs = outputs
        .map(|(key, model, Spread { mean, variance })| [format!("{}/{model}", key.name), format!("{mean} {variance}")]);
    rates.chain(outputs).flatten().collect()
}

/// The fields of a domain as lessons. What is none is left out.
pub fn lessons(domain: &str, fields: &[String]) -> Lessons {
    let mut lessons = Lessons::default();
    for pair in fields.chunks_exact(2) {
        let (field, value) = (&pair[0], &pair[1]);
        if domain == FLEET {
            lessons.rates.extend(value.parse().map(|rate| (Arc::from(field.as_str()), rate)));
        } else {
            lessons.outputs.extend(output(domain, field, value));
        }
    }
    lessons
}

fn output(domain: &str, field: &str, value: &str) -> Option<(ObjectRef, Arc<str>, Spread)> {
    let (key, model) = field.split_once('/')?;
    let (mean, variance) = value.split_once(' ')?;
    let spread = Spread { mean: mean.parse().ok()?, variance: variance.parse().ok()? };
    Some((ObjectRef::new(domain, key), model.into(), spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of(key: &str, model: &str) -> (ObjectRef, Arc<str>, Spread) {
        (ObjectRef::new("team", key), model.into(), Spread { mean: 800.25, variance: 1.0 / 3.0 })
    }

    #[test]
    fn lessons_that_were_written_are_read_as_they_were() {
        let rates = Lessons { rates: vec![("org/model: a b".into(), 0.1 + 0.2)], ..Lessons::default() };
        assert_eq!(lessons(FLEET, &fields(&rates)), rates);
        let outputs = Lessons { outputs: vec![output_of("a.b", "org/model: a b")], ..Lessons::default() };
        assert_eq!(fields(&outputs)[0], "a.b/org/model: a b");
        assert_eq!(lessons("team", &fields(&outputs)), outputs);
    }

    #[test]
    fn each_domain_has_the_lessons_of_its_keys_and_the_fleet_has_the_rates() {
        let other = (ObjectRef::new("other", "a"), "m".into(), Spread { mean: 1.0, variance: 0.0 });
        let rates = vec![("m".into(), 0.5)];
        let all = Lessons { rates: rates.clone(), outputs: vec![output_of("a", "m"), other.clone()] };
        let domains = by_domain(all);
        let expected = [
            (FLEET.to_owned(), Lessons { rates, outputs: vec![] }),
            ("other".to_owned(), Lessons { rates: vec![], outputs: vec![other] }),
            ("team".to_owned(), Lessons { rates: vec![], outputs: vec![output_of("a", "m")] }),
        ];
        assert_eq!(domains, BTreeMap::from(expected));
        assert!(by_domain(Lessons::default()).is_empty());
    }

    #[test]
    fn models_with_endless_names_are_not_told_of() {
        let long: Arc<str> = "m".repeat(LONGEST_MODEL + 1).into();
        let all = Lessons { rates: vec![(long.clone(), 0.5)], outputs: vec![output_of("a", &long)] };
        assert_eq!(fields(&all), Fields::new());
    }

    #[test]
    fn fields_that_are_no_lessons_are_left_out() {
        let broken = [("m", "1 2"), ("a/m", "1"), ("a/m", "x 2"), ("a/m", "1 y"), ("", ""), ("a/m", "")];
        for (field, value) in broken {
            let fields = [field, value].map(str::to_owned);
            assert!(lessons("team", &fields).is_empty(), "{field}: {value}");
        }
        assert!(lessons(FLEET, &["m", "much"].map(str::to_owned)).is_empty());
    }
}
