//! `relay run`: serves a directory, follows it, and stops in order.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    server::{Server, ask, chat, message, open, until},
    support::{directory, examples, run},
};

const BEARER: (&str, &str) = ("authorization", "Bearer quickstart-token-not-for-production");

/// The quickstart in front of a demo upstream.
fn quickstart(demo: &Server) -> String {
    let text = fs::read_to_string(examples().join("quickstart/relay.yaml")).expect("the quickstart is there");
    assert!(text.contains("127.0.0.1:9090"));
    text.replace("127.0.0.1:9090", &demo.listen().to_string())
}

/// A policy, which nothing depends on.
fn policy(name: &str, field: &str) -> String {
    format!("apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata:\n  name: {name}\nspec:\n  {field}: {{}}\n")
}

/// The digest of the table in effect.
fn table(relay: &Server) -> Value {
    serde_json::from_str(&ask(relay.admin(), "/debug/table", &[], "").body).expect("JSON")
}

#[test]
fn the_first_line_names_both_addresses_and_the_quickstart_answers_in_both_shapes() {
    let demo = Server::demo();
    let dir = directory(&[("relay.yaml", &quickstart(&demo))]);
    let relay = Server::run(dir.path(), &[], &[]);
    let (listen, admin) = (relay.listen(), relay.admin());
    assert_eq!(relay.first_line, format!("relay: listening on http://{listen}, admin on http://{admin}\n"));
    for model in ["demo-chat", "demo-messages"] {
        for stream in [false, true] {
            let answer = ask(listen, "/v1/chat/completions", &[BEARER], &chat(model, stream));
            assert!(answer.status == 200 && answer.body.contains("hello"), "{answer:?}");
            assert_eq!(answer.body.contains("data: [DONE]"), stream, "{answer:?}");
            let answer = ask(listen, "/anthropic/v1/messages", &[BEARER], &message(model, stream));
            assert!(answer.status == 200 && answer.body.contains("hello"), "{answer:?}");
            assert_eq!(answer.body.contains("event: message_stop"), stream, "{answer:?}");
        }
    }
    assert_eq!(ask(admin, "/readyz", &[], "").status, 200);
    assert_eq!(ask(listen, "/v1/models", &[], "").status, 401);
}

#[test]
fn changes_take_effect_at_once_and_interrupt_no_request() {
    const CHANGES: usize = 20;
    let demo = Server::demo();
    let dir = directory(&[("relay.yaml", &quickstart(&demo)), ("change.yaml", &policy("p", "retries"))]);
    let relay = Server::run(dir.path(), &[], &[]);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut times = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let headers = [BEARER];
                let answer = ask(relay.listen(), "/v1/chat/completions", &headers, &chat("demo-messages", true));
                assert!(answer.status == 200 && answer.body.contains("[DONE]"), "{answer:?}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut times = Vec::new();
        for change in 0..CHANGES {
            let name = format!("default/p{change}");
            fs::write(dir.path().join("change.yaml"), policy(&format!("p{change}"), "retries")).expect("writable");
            let start = Instant::now();
            until(|| table(&relay)["policies"].get(&name).is_some(), || name.clone());
            times.push(start.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        times
    });
    assert!(answered.into_inner() > 0);
    // Each follows the one before at once, so that with polling each would take an interval. What a usual one takes is far
    // below any; single ones may meet a busy machine.
    times.sort();
    assert!(times[CHANGES / 2] < Duration::from_secs(4), "{times:?}");
}

#[test]
fn a_file_that_breaks_keeps_its_objects_for_a_moment_and_is_then_reported_with_its_line() {
    let dir = directory(&[("good.yaml", &policy("good", "retries")), ("other.yaml", &policy("other", "retries"))]);
    let relay = Server::run(dir.path(), &[], &[]);
    fs::write(dir.path().join("other.yaml"), "kind: [\n").expect("writable");
    relay.says("other.yaml:1: is not valid YAML");
    until(|| table(&relay)["policies"].get("default/other").is_none(), || "the broken file to be dropped".into());
    assert!(table(&relay)["policies"].get("default/good").is_some());
    fs::write(dir.path().join("other.yaml"), policy("other", "retries")).expect("writable");
    until(|| table(&relay)["policies"].get("default/other").is_some(), || "the mended file".into());
}

#[test]
fn a_refused_object_costs_only_itself_and_is_named_on_stderr() {
    let demo = Server::demo();
    let dir = directory(&[("relay.yaml", &quickstart(&demo)), ("bad.yaml", &policy("bad", "surprise"))]);
    let relay = Server::run(dir.path(), &[], &[]);
    let bad = dir.path().join("bad.yaml");
    relay.says(&format!("{}:6: Policy default/bad: spec.surprise: unknown field", bad.display()));
    let answer = ask(relay.listen(), "/v1/chat/completions", &[BEARER], &chat("demo-chat", false));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn strict_refuses_to_start_where_an_object_is_refused() {
    let dir = directory(&[("good.yaml", &policy("good", "retries")), ("bad.yaml", &policy("bad", "surprise"))]);
    let path = dir.path().to_str().expect("UTF-8");
    let said = run(&["run", path, "--strict", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert!(said.stderr.contains("bad.yaml:6: Policy default/bad: spec.surprise"), "{}", said.stderr);
}

#[test]
fn a_rotated_secret_and_a_variable_are_picked_up() {
    let demo = Server::demo();
    let text = quickstart(&demo).replace("  key: demo-key\n", "  key: demo-invalid\n");
    let variable = text.replacen(
        "    secretKeyRef:\n      name: demo-provider\n      key: key\n",
        "    env:\n      name: RELAY_KEY_DEMO\n",
        1,
    );
    let dir = directory(&[("relay.yaml", &variable)]);
    let relay = Server::run(dir.path(), &[], &[("RELAY_KEY_DEMO", "demo-key")]);
    let status = |model: &str| ask(relay.listen(), "/v1/chat/completions", &[BEARER], &chat(model, false)).status;
    assert_eq!(status("demo-chat"), 200);
    assert_ne!(status("demo-messages"), 200);
    let rotated = variable.replace("demo-invalid", "demo-key-rotated");
    fs::write(dir.path().join("relay.yaml"), rotated).expect("writable");
    until(|| status("demo-messages") == 200, || "the rotated Secret".into());
}

#[test]
fn sigterm_lets_open_answers_finish_and_exits_with_0() {
    let demo = Server::start(&["demo-upstream", "--listen", "127.0.0.1:0", "--delay", "100ms"], &[]);
    let dir = directory(&[("relay.yaml", &quickstart(&demo))]);
    let mut relay = Server::run(dir.path(), &["--usage", "-"], &[]);
    let mut stream = open(relay.listen(), "/v1/messages", &[BEARER], &message("demo-messages", true));
    let mut first = [0; 64];
    stream.read_exact(&mut first).expect("the answer begins");
    relay.signal("TERM");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("the answer goes on");
    assert!(rest.contains("event: message_stop"), "{rest}");
    let (code, records) = relay.end();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((code, records.len()), (Some(0), 1));
    assert_eq!(records[0]["finish"], "end_turn");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let dir = directory(&[("good.yaml", &policy("good", "retries"))]);
        let mut relay = Server::run(dir.path(), &["--deregister-delay", "600s"], &[]);
        relay.signal(name);
        relay.says("shutting down");
        relay.signal(name);
        assert_eq!(relay.end().0, Some(code));
    }
}

#[test]
fn an_address_that_is_taken_is_an_error_of_the_command() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = directory(&[("good.yaml", &policy("good", "retries"))]);
    let said = run(&["run", dir.path().to_str().expect("UTF-8"), "--listen", &address, "--admin", "127.0.0.1:0"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains(&format!("listening on {address}")), "{}", said.stderr);
}

#[test]
fn logs_can_be_json_and_are_filtered() {
    let dir = directory(&[("bad.yaml", &policy("bad", "surprise"))]);
    let relay = Server::run(dir.path(), &["--log-format", "json", "--log", "warn"], &[]);
    relay.says("spec.surprise");
    let lines: Vec<Value> =
        relay.log().lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect();
    assert!(lines.iter().all(|line| line["level"] == "WARN"), "{lines:?}");
    assert!(Path::new(&dir.path()).exists());
}
