//! One measurement of one contender, as it stands in the raw data: a JSON object a line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{gateway::Contender, scenario::Scenario};

/// What was measured, by name. Names end with their unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Values(BTreeMap<String, f64>);

impl Values {
    /// Adds a value, unless there is none.
    pub fn put(&mut self, name: &str, value: f64) {
        if value.is_finite() {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// The value of a name.
    pub fn of(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }
}

/// A line of the raw data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// From 1.
    pub pass: usize,
    /// What was asked.
    pub scenario: Scenario,
    /// Of whom.
    pub contender: Contender,
    /// The machine's load average over the last minute, when this began.
    pub load: f64,
    /// What came out.
    pub values: Values,
}

/// All measurements of a run.
#[derive(Debug, Clone, Default)]
pub struct Samples(pub Vec<Sample>);

impl Samples {
    /// The values of all passes, in order of passes.
    pub fn of(&self, scenario: Scenario, contender: Contender, name: &str) -> Vec<f64> {
        let those = self.0.iter().filter(|sample| sample.scenario == scenario && sample.contender == contender);
        those.filter_map(|sample| sample.values.of(name)).collect()
    }

    /// The middle of the passes, with the least and the most.
    pub fn middle(&self, scenario: Scenario, contender: Contender, name: &str) -> Option<Middle> {
        Middle::of(self.of(scenario, contender, name))
    }

    /// The middle of the quotients of two contenders, each within a pass.
    pub fn ratio(&self, scenario: Scenario, one: Contender, other: Contender, name: &str) -> Option<Middle> {
        self.between((scenario, one), (scenario, other), name)
    }

    /// As [`Self::ratio`], across scenarios.
    pub fn between(&self, one: (Scenario, Contender), other: (Scenario, Contender), name: &str) -> Option<Middle> {
        let value = |pass: usize, (scenario, contender): (Scenario, Contender)| {
            let those =
                |sample: &&Sample| sample.pass == pass && sample.scenario == scenario && sample.contender == contender;
            self.0.iter().find(those)?.values.of(name)
        };
        let passes = 1..=self.0.iter().map(|sample| sample.pass).max().unwrap_or_default();
        Middle::of(passes.filter_map(|pass| Some(value(pass, one)? / value(pass, other)?)).collect())
    }
}

/// A median with its spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Middle {
    /// The least.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The most.
    pub most: f64,
}

impl Middle {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { least, median: f64::midpoint(low, high), most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(pass: usize, contender: Contender, rate: f64) -> Sample {
        let mut values = Values::default();
        values.put("per_second", rate);
        Sample { pass, scenario: Scenario::SameShape, contender, load: 0.0, values }
    }

    #[test]
    fn ratios_are_taken_within_a_pass() {
        let rates = [(1, 50.0, 100.0), (2, 30.0, 40.0), (3, 10.0, 50.0)];
        let each =
            |(pass, relay, nginx)| [sample(pass, Contender::Relay, relay), sample(pass, Contender::Nginx, nginx)];
        let samples = Samples(rates.into_iter().flat_map(each).collect());
        let ratio = samples.ratio(Scenario::SameShape, Contender::Relay, Contender::Nginx, "per_second");
        assert_eq!(ratio, Some(Middle { least: 0.2, median: 0.5, most: 0.75 }));
        let middle = samples.middle(Scenario::SameShape, Contender::Nginx, "per_second");
        assert_eq!(middle, Some(Middle { least: 40.0, median: 50.0, most: 100.0 }));
    }

    #[test]
    fn samples_are_read_as_they_are_written() {
        let one = sample(1, Contender::RelayRedis, 12.5);
        let line = serde_json::to_string(&one).unwrap();
        assert_eq!(
            line,
            r#"{"pass":1,"scenario":"same-shape","contender":"relay-redis","load":0.0,"values":{"per_second":12.5}}"#
        );
        assert_eq!(serde_json::from_str::<Sample>(&line).unwrap(), one);
    }
}
