//! Tools that count.

use std::process::Command;

/// Whether one is there. Says in one line where it is not.
pub(crate) fn has(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("--version").output().is_ok();
    if !is_there {
        println!("`{tool}` is missing, and what it counts is not checked: apt-get install {tool}");
    }
    is_there
}
