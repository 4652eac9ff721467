//! One row of the table of goals. Measurements of the compiler, the feed, the operator and the data plane
//! include this file, as none of them may import this crate: all print what they found in the same form.

use std::{fs, time::Duration};

/// Prints a goal, what was measured, and whether that meets it, as a row of a table in Markdown.
pub(crate) fn print(goal: &str, measured: &str, is_met: bool) {
    let met = if is_met { "yes" } else { "no" };
    println!("| {goal} | {measured} | {met} | {} |", load());
}

/// What the machine does besides: the load average over the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").expect("Linux tells its load");
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// The time below which so many percent of several times are, in milliseconds: 0 is the least, 100 the most.
pub(crate) fn at(times: &[Duration], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}
