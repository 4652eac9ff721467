//! The table: each contender of each scenario, then the goals, then what it was measured on.

use std::fmt::Write;

use super::goals;
use crate::{
    gateway::Contender,
    sample::{Middle, Samples},
    scenario::Scenario,
};

/// What a contender came to, beside rate and processor time: name of the value, words, digits.
const FURTHER: &[(&str, &str, usize)] = &[
    ("busy", "of its core", 2),
    ("answered_p50_us", "p50 µs", 0),
    ("answered_p99_us", "p99 µs", 0),
    ("begun_p50_us", "first byte p50 µs", 0),
    ("begun_p99_us", "first byte p99 µs", 0),
    ("silence_ms", "longest silence ms", 1),
    ("tries_per_answer", "upstream requests per answer", 4),
    ("usual_500_us", "µs without a failure", 0),
    ("more_500_us", "µs more with a 500", 0),
    ("more_429_us", "µs more with a 429", 0),
    ("more_hang_us", "µs more with a first byte that does not come in 300 ms", 0),
    ("redis_us", "µs of Redis scripts", 1),
    ("rss_before_mb", "MB before", 1),
    ("rss_mb", "MB", 1),
    ("added_mb", "MB more", 1),
    ("rss_after_mb", "MB after", 1),
    ("idle_mb", "MB idle", 1),
    ("listening_ms", "ms until it listens", 0),
    ("ready_ms", "ms until it serves its table", 0),
    ("first_answer_ms", "ms until the first answer", 0),
];

/// What all measurements of a run mean, in Markdown.
pub fn table(samples: &Samples, facts: &[(&str, String)], passes: usize, seconds: f64) -> String {
    let mut text = String::from("# What was measured\n\n");
    let _ = writeln!(
        text,
        "Medians of {passes} passes of {seconds} s each, with the least and the most; ratios are taken within each pass.\n"
    );
    text.push_str("| scenario | gateway | a second | x nginx | x bare hyper | CPU µs | further |\n|---|---|---|---|---|---|---|\n");
    for scenario in scenarios(samples) {
        for contender in scenario.contenders() {
            row(&mut text, samples, scenario, *contender);
        }
    }
    text.push_str("\n## Goals\n\n| goal | measured | met |\n|---|---|---|\n");
    for goal in goals::goals(samples) {
        let met = if goal.is_met { "yes" } else { "no" };
        let _ = writeln!(text, "| {} | {} | {met} |", goal.words, goal.measured);
    }
    text.push_str("\n## On what\n\n| | |\n|---|---|\n");
    for (name, fact) in facts {
        let _ = writeln!(text, "| {name} | {fact} |");
    }
    let loads = samples.0.iter().map(|sample| sample.load);
    let (least, most) = loads.fold((f64::MAX, f64::MIN), |(least, most), load| (least.min(load), most.max(load)));
    let _ = writeln!(text, "| load average while it was measured | {least} to {most} |");
    text
}

/// Those that were measured, in their order.
pub(super) fn scenarios(samples: &Samples) -> Vec<Scenario> {
    let mut scenarios: Vec<_> = samples.0.iter().map(|sample| sample.scenario).collect();
    scenarios.sort_unstable();
    scenarios.dedup();
    scenarios
}

fn row(text: &mut String, samples: &Samples, scenario: Scenario, contender: Contender) {
    let shown = |name: &str, digits: usize| {
        samples.middle(scenario, contender, name).map(|middle| spread(middle, digits)).unwrap_or_default()
    };
    let against = |other: Contender| {
        let ratio = samples.ratio(scenario, contender, other, "per_second");
        ratio.filter(|_| contender != other).map(|middle| spread(middle, 2)).unwrap_or_default()
    };
    // Where keys are not drawn there is nothing to try again.
    let is_told = |name: &str| name != "tries_per_answer" || matches!(scenario, Scenario::FourKeys | Scenario::HalfBad);
    let further = FURTHER.iter().filter(|(name, ..)| is_told(name)).filter_map(|&(name, words, digits)| {
        Some(format!("{words}: {}", spread(samples.middle(scenario, contender, name)?, digits)))
    });
    let rate = samples.middle(scenario, contender, "per_second");
    let rate = rate.map(|middle| format!("{} {}s", spread(middle, 0), scenario.unit())).unwrap_or_default();
    let _ = writeln!(
        text,
        "| {} | {} | {rate} | {} | {} | {} | {} |",
        scenario.title(),
        contender.title(),
        against(Contender::Nginx),
        against(Contender::Hyper),
        shown("cpu_us", 1),
        further.collect::<Vec<_>>().join("; ")
    );
}

/// A median with its spread, as `12.5 (11.9–13.0)`; without where there was one pass alone.
pub(super) fn spread(middle: Middle, digits: usize) -> String {
    let Middle { least, median, most } = middle;
    if least == most {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}
