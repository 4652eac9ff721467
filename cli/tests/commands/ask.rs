//! `relay ask`: one request to a running Relay.

use std::{fs, io::Write, process::Stdio};

use crate::{
    server::Server,
    support::{Ran, directory, examples, relay},
};

/// The quickstart in front of a demo upstream.
fn quickstart() -> (Server, tempfile::TempDir, Server) {
    let demo = Server::demo();
    let text = fs::read_to_string(examples().join("quickstart/relay.yaml")).expect("the quickstart is there");
    let dir = directory(&[("relay.yaml", &text.replace("127.0.0.1:9090", &demo.listen().to_string()))]);
    let relay = Server::run(dir.path(), &[], &[]);
    (demo, dir, relay)
}

fn ask(at: &Server, token: &str, arguments: &[&str]) -> Ran {
    let url = format!("http://{}", at.listen());
    let mut command = relay(&[&["ask", "--url", &url], arguments].concat());
    let done = command.env("RELAY_TOKEN", token).stdin(Stdio::null()).output().expect("relay runs");
    let text = |bytes| String::from_utf8(bytes).expect("relay prints UTF-8");
    Ran { code: done.status.code().unwrap_or(-1), stdout: text(done.stdout), stderr: text(done.stderr) }
}

const TOKEN: &str = "quickstart-token-not-for-production";

#[test]
fn an_answer_of_either_shape_is_printed_and_what_it_took_is_said_beside_it() {
    let (_demo, _dir, relay) = quickstart();
    for shape in ["openai", "anthropic"] {
        for model in ["demo-chat", "demo-messages"] {
            let said = ask(&relay, TOKEN, &["--shape", shape, "--model", model, "good morning"]);
            assert_eq!(said.code, 0, "{said:?}");
            assert!(said.stdout.contains("good morning"), "{said:?}");
            assert!(said.stderr.starts_with(&format!("model {model}; host ")), "{said:?}");
            assert!(said.stderr.contains(" tokens in, "), "{said:?}");
        }
    }
}

#[test]
fn without_a_model_the_first_that_the_key_may_use_is_asked() {
    let (_demo, _dir, relay) = quickstart();
    let said = ask(&relay, TOKEN, &["hello"]);
    assert!(said.code == 0 && said.stderr.starts_with("model demo-"), "{said:?}");
}

#[test]
fn a_refusal_is_told_in_the_words_of_relay() {
    let (_demo, _dir, relay) = quickstart();
    let unknown = ask(&relay, "somebody-else-with-a-token-of-their-own", &["--model", "demo-chat", "hello"]);
    assert!(unknown.code == 1 && unknown.stderr.starts_with("relay: 401 Unauthorized: "), "{unknown:?}");
    let missing = ask(&relay, TOKEN, &["--model", "no-such-model", "hello"]);
    assert!(missing.code == 1 && missing.stderr.contains("no-such-model"), "{missing:?}");
}

#[test]
fn a_key_in_a_file_is_read_and_one_that_is_nowhere_is_asked_for() {
    let (_demo, _dir, at) = quickstart();
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(file, "{TOKEN}").expect("it is written");
    let url = format!("http://{}", at.listen());
    let path = file.path().to_str().expect("UTF-8");
    let done = relay(&["ask", "--url", &url, "--token-file", path, "hello"]).output().expect("relay runs");
    assert!(done.status.success(), "{done:?}");
    let done = relay(&["ask", "--url", &url, "hello"]).output().expect("relay runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(2) && said.contains("RELAY_TOKEN"), "{said}");
}

#[test]
fn where_relay_cannot_be_is_said_with_what_would_be_right() {
    for (url, wanted) in [
        ("relay.example", "write `http://HOST:PORT`"),
        ("http://127.0.0.1:1/v1", "has a path"),
        ("http://127.0.0.1:1", "nobody answers at http://127.0.0.1:1"),
    ] {
        let done = relay(&["ask", "--url", url, "--model", "m", "hello"]).env("RELAY_TOKEN", TOKEN).output();
        let done = done.expect("relay runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.code() == Some(2) && said.contains(wanted), "{url}: {said}");
    }
}
