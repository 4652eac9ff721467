//! Who takes the instructions of a request: reads what callgrind wrote of one part of `counted`, and says for each area of
//! Relay what its functions and all that they call came to.
//!
//! `cargo run -p bench --example map -- FILE TIMES`, with the number of requests or events that the part consisted of.

use std::{collections::HashMap, env, error::Error, fs};

/// Areas, and the paths that are theirs. What one area calls of another is in both.
const AREAS: &[(&str, &[&str])] = &[
    ("bodies read; across shapes translated", &["protocol::"]),
    ("of that, the request's body read", &["protocol::ask"]),
    ("relay key authenticated", &["dataplane::auth"]),
    ("model and route found", &["dataplane::resolve", "dataplane::route"]),
    ("policy, hosts and host keys put in order", &["dataplane::plan", "dataplane::pool", "dataplane::breaker"]),
    ("limits and budgets", &["dataplane::limit"]),
    ("headers and trace, both ways", &["dataplane::headers", "dataplane::trace", "dataplane::warnings"]),
    ("usage record and metrics", &["dataplane::meter", "dataplane::metrics"]),
];

/// What functions took: by themselves, and of whom they were called.
#[derive(Default)]
struct Dump {
    total: u64,
    /// Caller, callee, and what the callee came to with all that it calls.
    calls: Vec<(String, String, u64)>,
}

/// Reads the text format of callgrind: `fn=` begins a function, `cfn=` and `calls=` announce the line of a call, and each
/// other line of numbers ends with what was taken by the function itself. A name is written out once, then its number stands for it.
fn read(text: &str) -> Dump {
    let (mut names, mut dump) = (HashMap::<&str, &str>::new(), Dump::default());
    let (mut caller, mut callee, mut is_call) = ("", "", false);
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("fn=") {
            caller = name(&mut names, named);
        } else if let Some(named) = line.strip_prefix("cfn=") {
            callee = name(&mut names, named);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first))
            && let Some(cost) = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok())
        {
            if is_call {
                dump.calls.push((caller.to_owned(), callee.to_owned(), cost));
            } else {
                dump.total += cost;
            }
            is_call = false;
        }
    }
    dump
}

fn name<'a>(names: &mut HashMap<&'a str, &'a str>, named: &'a str) -> &'a str {
    match named.split_once(' ') {
        Some((number, name)) => names.entry(number).insert_entry(name).get(),
        None => names.get(named).copied().unwrap_or(named),
    }
}

impl Dump {
    /// What Relay's other functions called of these paths, or polled or dropped. What an iterator or a decoder of a library
    /// calls was begun by one that is in already.
    fn of(&self, paths: &[&str]) -> u64 {
        let is_of = |name: &str, paths: &[&str]| {
            let name = name.trim_start_matches(['<', '&']).trim_start_matches("mut ");
            paths.iter().any(|path| name.starts_with(path))
        };
        let enters =
            |caller: &str| !is_of(caller, paths) && is_of(caller, &["dataplane::", "core::pin::", "core::ptr::"]);
        self.calls
            .iter()
            .filter(|(caller, callee, _)| is_of(callee, paths) && enters(caller))
            .map(|(.., cost)| cost)
            .sum()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [file, times] = arguments.as_slice() else { return Err("usage: map FILE TIMES".into()) };
    let (dump, times) = (read(&fs::read_to_string(file)?), times.parse::<u64>()?);
    println!("| area | instructions |\n|---|---|");
    for (area, paths) in AREAS {
        println!("| {area} | {} |", dump.of(paths) / times);
    }
    println!("| all | {} |", dump.total / times);
    Ok(())
}
