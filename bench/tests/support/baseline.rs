//! What was counted when it was last recorded, in `counts.json`. `RELAY_BLESS=1` records what is counted now; what has become
//! more by more than the tolerance fails, and what has become less is told, so that it is recorded too.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Tests of one program run at the same time.
static FILE: Mutex<()> = Mutex::new(());

/// Holds a count against its record. `tolerance` is a part of it.
pub(crate) fn check(name: &str, counted: f64, tolerance: f64) {
    let _alone = FILE.lock().expect("nobody panics while holding it");
    let mut records = records();
    if env::var_os("RELAY_BLESS").is_some() {
        records.insert(name.to_owned(), (counted * 100.0).round() / 100.0);
        let text = serde_json::to_string_pretty(&records).expect("numbers are JSON");
        return fs::write(path(), text + "\n").expect("the record is written");
    }
    let recorded = records.get(name).copied();
    let recorded = recorded.unwrap_or_else(|| panic!("`{name}` is not recorded: RELAY_BLESS=1 records {counted:.2}"));
    println!("{name}: {counted:.2}, recorded {recorded:.2}");
    // Half of one thing is none.
    let most = recorded * (1.0 + tolerance) + 0.5;
    let message = "say why in the commit that records it with RELAY_BLESS=1";
    let exceeded = counted > most;
    drop(_alone);
    assert!(!exceeded, "{name}: {counted:.2}, and {recorded:.2} is recorded: make it less, or {message}");
    if counted < recorded * (1.0 - tolerance) - 0.5 {
        println!("{name} has become less: RELAY_BLESS=1 records it");
    }
}

fn records() -> BTreeMap<String, f64> {
    fs::read_to_string(path()).map(|text| serde_json::from_str(&text).expect("the record is JSON")).unwrap_or_default()
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/counts.json")
}
