//! What Relay does for a request and for an event of a stream, in instructions, as callgrind counts them. That takes an
//! optimised build of its own, so it is done only where `RELAY_COUNT_INSTRUCTIONS=1` asks for it, as `.ci/run` does.

#[expect(dead_code, reason = "each file of tests uses a part of what they share")]
mod support;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use support::{baseline, tools};

/// Hash maps are seeded anew in each process, and timers run by the clock.
const TOLERANCE: f64 = 0.05;

/// Has cargo build the program as it is close to what is shipped.
fn built() -> PathBuf {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked", "--profile", "counted"]);
    assert!(command.args(["--example", "counted"]).status().unwrap().success(), "cargo failed: {command:?}");
    let test = env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("cargo puts tests into `<profile>/deps` of the target");
    target.join("counted/examples/counted")
}

/// Instructions of each part for one of what it consists of.
fn counted(program: &Path) -> BTreeMap<String, f64> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--toggle-collect=counted::counted_part"]);
    // What a part came to is written down before the part is told.
    command.arg("--dump-before=counted::say");
    command.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
    let output = command.arg(program).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let part = |(n, line): (usize, &str)| {
        let (name, many) = line.split_once('\t').expect("a name and a number");
        let text = fs::read_to_string(folder.path().join(format!("out.{}", n + 1))).expect("a dump for each part");
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a dump has its total");
        (name.to_owned(), total.parse::<f64>().unwrap() / many.parse::<f64>().unwrap())
    };
    told.lines().enumerate().map(part).collect()
}

#[test]
fn relay_takes_no_more_instructions_than_are_recorded() {
    if env::var_os("RELAY_COUNT_INSTRUCTIONS").is_none() {
        return println!("instructions are not counted: RELAY_COUNT_INSTRUCTIONS=1 does");
    }
    if !tools::has("valgrind") {
        return;
    }
    let counted = counted(&built());
    println!("{counted:#?}");
    let of = |name: &str| counted.get(name).copied().unwrap_or_else(|| panic!("`{name}` was not counted"));
    for name in [
        "same shape, limits off",
        "same shape, everything on",
        "Anthropic client, OpenAI host",
        "OpenAI client, Anthropic host",
    ] {
        let relay = of(name) - of("no gateway");
        baseline::check(&format!("instructions per request: {name}"), relay, TOLERANCE);
    }
    let relay = of("same shape, 200 KB") - of("no gateway, 200 KB");
    baseline::check("instructions per request: same shape, 200 KB", relay, TOLERANCE);
    for name in ["same shape", "Anthropic client, OpenAI host"] {
        let more = |name: &str| of(&format!("{name}, 260 events")) - of(&format!("{name}, 60 events"));
        let relay = (more(name) - more("no gateway")) / 200.0;
        baseline::check(&format!("instructions per event: {name}"), relay, TOLERANCE);
    }
}
