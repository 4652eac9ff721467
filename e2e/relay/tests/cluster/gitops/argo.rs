//! Judges objects as Argo CD does: by a script in Lua 5.1 that finds the object in the global `obj` and answers with a table.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Argo CD opens `package`, `base`, `table` and a small `os` of its own; these it does not.
const NOT_OPENED: &str = "string, math, io, debug, coroutine = nil\ngetmetatable('').__index = nil\n";

/// What Argo CD shows: one of its states, and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) status: String,
    pub(super) message: String,
}

/// The verdict of a script on an object.
pub(super) fn health(script: &str, object: &Value) -> Health {
    let program = format!(
        "{NOT_OPENED}obj = {}\nlocal health = (function()\n{script}\nend)()\nprint(health.status)\nprint(health.message)\n",
        literal(object)
    );
    let mut command = Command::new("lua5.1");
    command.arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut lua = command.spawn().expect("lua5.1 is installed: scripts/test does it");
    lua.stdin.take().expect("its input is a pipe").write_all(program.as_bytes()).expect("lua5.1 reads its input");
    let output = lua.wait_with_output().expect("lua5.1 ends");
    assert!(output.status.success(), "{}\n{object:#}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("conditions are UTF-8");
    let (status, message) = said.split_once('\n').expect("both are printed");
    assert!(["Healthy", "Progressing", "Degraded", "Suspended"].contains(&status), "Argo CD knows no `{status}`");
    Health { status: status.to_owned(), message: message.trim_end().to_owned() }
}

/// A value as Lua writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("{{{}}}", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<_> =
                fields.iter().map(|(name, value)| format!("[{}] = {}", quoted(name), literal(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// A string of bytes, each by its number.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for byte in text.bytes() {
        write!(quoted, "\\{byte:03}").expect("a String takes everything");
    }
    quoted + "\""
}
