//! The golden matrix: a request of one shape and what each target of the other shape gets of it, body, headers and
//! losses, or why it is refused. A case is a file in `cases/<direction>`; its name tells the rule.
//!
//! `UPDATE_GOLDEN=1` writes what the codecs say now; read every line of the difference before you commit it.

#[expect(dead_code, reason = "each file of tests uses a part of it")]
mod support;

use std::{fs, path::PathBuf};

use protocol::{WireShape, codec};
use serde_json::{Map, Value, json};
use support::TargetModel;

#[test]
fn chat_requests_become_messages_requests() {
    check("chat-to-messages", WireShape::OpenaiChat);
}

#[test]
fn messages_requests_become_chat_requests() {
    check("messages-to-chat", WireShape::AnthropicMessages);
}

fn check(direction: &str, from: WireShape) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(direction);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let faults: Vec<String> = files.iter().filter_map(|file| differs(file, from)).collect();
    assert!(faults.is_empty(), "{} cases differ:\n{}", faults.len(), faults.join("\n"));
}

fn differs(file: &PathBuf, from: WireShape) -> Option<String> {
    let mut case: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let targets: Vec<String> = case["to"].as_object().unwrap().keys().cloned().collect();
    let found = targets.into_iter().map(|target| (target.clone(), outcome(from, &case["in"], &target)));
    let found = Value::Object(found.collect::<Map<_, _>>());
    if found == case["to"] {
        return None;
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        case["to"] = found;
        fs::write(file, format!("{case:#}\n")).unwrap();
        return None;
    }
    Some(format!("{}:\n{found:#}", file.file_stem().unwrap().display()))
}

/// What a target gets.
fn outcome(from: WireShape, request: &Value, target: &str) -> Value {
    let model = TargetModel::new(support::other(from), target.to_owned().leak());
    let request = codec::decode_request(from, request.to_string().as_bytes());
    match request.and_then(|request| codec::encode_request(&request, &model.target())) {
        Ok(encoded) => {
            let mut outcome = Map::new();
            outcome.insert("body".to_owned(), serde_json::from_slice(&encoded.body).unwrap());
            for (name, value) in encoded.headers {
                outcome.insert(name.to_owned(), value.into());
            }
            let losses = encoded.losses.iter().map(|loss| format!("{} {}: {}", loss.kind, loss.field, loss.reason));
            outcome.insert("losses".to_owned(), losses.collect());
            Value::Object(outcome)
        }
        Err(refusal) => json!({"refused": refusal.message, "param": refusal.param, "malformed": refusal.malformed}),
    }
}
