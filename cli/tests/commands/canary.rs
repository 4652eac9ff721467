//! Not one byte string of a secret leaves a running Relay but to where it belongs.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::Path,
};

use crate::{
    server::{Server, ask, chat, message, until},
    support::{directory, run_with},
};

/// Secrets: of host keys that work and that fail, of relay keys, and one that nobody knows.
const GOOD: &str = "canary-good-6f1d2a";
const INVALID: &str = "canary-invalid-9c3b7e";
const LIMITED: &str = "canary-limited-51ab0d";
const BROKEN: &str = "canary-broken-e08f44";
const FROM_ENV: &str = "canary-env-77d1c0";
const TOKEN: &str = "canary-token-of-the-application-2b9f";
const REVOKED: &str = "canary-token-that-is-revoked-81ce";
const UNKNOWN: &str = "canary-token-that-nobody-knows-4d";
const SECRETS: [&str; 11] =
    [GOOD, INVALID, LIMITED, BROKEN, FROM_ENV, TOKEN, REVOKED, UNKNOWN, ECHOED, SEALED, SEALING_KEY];
const SEALED: &str = "canary-sealed-3f61aa";
const SEALING_KEY: &str = "canary-sealing-key-of-32-bytes-x";
const ECHOED: &str = "canary-echoed-0a9d55";

/// An upstream that refuses every request and repeats all of its headers, the credential included; its address.
fn echoing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for (stream, status) in listener.incoming().zip([400, 404, 500, 422, 413].into_iter().cycle()) {
            let mut stream = stream.expect("a connection");
            let lines = BufReader::new(stream.try_clone().expect("a second handle")).lines().map_while(Result::ok);
            let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let message = serde_json::json!({"error": {"message": headers.join(" "), "type": "x", "code": "x"}});
            let body = message.to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: application/json\r\nx-echo: {ECHOED}"
            );
            let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

/// Lines of `source` that hold [`SEALED`] for a HostKey and a Host of this name; the key is in the file `key`.
fn sealed_source(key: &str, name: &str) -> String {
    let of = ["seal", "--key-file", key, "--namespace", "default", "--name", name, "--host", name];
    let sealed = run_with(&of, SEALED);
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    sealed.stdout
}

/// HostKeys whose credential is sealed, with Hosts and Models: one opens with the key in `directory`, one with none.
fn sealed_manifests(demo: &str, directory: &Path) -> String {
    let mut text = String::new();
    for (name, bytes) in [("opens", SEALING_KEY), ("closed", "another-key-that-is-not-given-xyz")] {
        let key = directory.join(name);
        fs::write(&key, &bytes[..32]).expect("writable");
        text += &format!(
            "---\napiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {{protocol: OpenAI, \
             baseURL: 'http://{demo}', allowPlaintext: true, network: {{allowPrivateAddresses: true}}}}\n---\n\
             apiVersion: llmrelay.io/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec: {{hosts: [{{name: h, \
             hostRef: {{name: {name}}}, upstreamModel: demo}}]}}\n---\n{}",
            sealed_source(key.to_str().expect("UTF-8"), name)
        );
    }
    fs::remove_file(directory.join("closed")).expect("it is there");
    text
}

fn manifests(demo: &str, echoing: &str) -> String {
    let mut text = String::new();
    let sources = [
        ("good", "secretKeyRef: {name: s, key: good}"),
        ("invalid", "secretKeyRef: {name: s, key: invalid}"),
        ("limited", "secretKeyRef: {name: s, key: limited}"),
        ("broken", "secretKeyRef: {name: s, key: broken}"),
        ("env", "env: {name: RELAY_KEY_CANARY}"),
        ("echoed", "secretKeyRef: {name: s, key: echoed}"),
    ];
    for protocol in ["OpenAI", "Anthropic"] {
        for (name, source) in sources {
            let upstream = if name == "echoed" { echoing } else { demo };
            let name = format!("{name}-{}", protocol.to_lowercase());
            text += &format!(
                "apiVersion: llmrelay.io/v1alpha1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {{protocol: {protocol}, \
                 baseURL: 'http://{upstream}', allowPlaintext: true, network: {{allowPrivateAddresses: true}}}}\n---\n\
                 apiVersion: llmrelay.io/v1alpha1\nkind: HostKey\nmetadata: {{name: {name}}}\nspec: {{hostRef: {{name: \
                 {name}}}, source: {{{source}}}}}\n---\n\
                 apiVersion: llmrelay.io/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec: {{hosts: [{{name: h, \
                 hostRef: {{name: {name}}}, upstreamModel: demo}}]}}\n---\n"
            );
        }
    }
    text + &format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\nstringData: {{good: {GOOD}, invalid: {INVALID}, limited: \
         {LIMITED}, broken: {BROKEN}, token: {TOKEN}, revoked: {REVOKED}, echoed: {ECHOED}}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: Policy\nmetadata: {{name: all}}\nspec: {{models: {{allow: ['*']}}}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: app}}\nspec: {{policyRefs: [{{name: all}}], \
         tokenSecretRef: {{name: s, key: token}}}}\n---\n\
         apiVersion: llmrelay.io/v1alpha1\nkind: RelayKey\nmetadata: {{name: old}}\nspec: {{policyRefs: [{{name: all}}], \
         revoked: true, tokenSecretRef: {{name: s, key: revoked}}}}\n"
    )
}

/// Every request that may show something of a secret; gives all answers as one text.
fn exercise(relay: &Server) -> String {
    let listen = relay.listen();
    let mut seen = String::new();
    let mut note = |answer: crate::server::Answer| seen += &format!("{}\n{}\n", answer.head, answer.body);
    let kinds = ["good", "invalid", "limited", "broken", "env", "echoed"];
    let models = ["openai", "anthropic"].iter().flat_map(|shape| kinds.map(|kind| format!("{kind}-{shape}")));
    for model in models.collect::<Vec<_>>() {
        for stream in [false, true] {
            let bearer = format!("Bearer {TOKEN}");
            let chat = chat(&model, stream);
            note(ask(listen, "/v1/chat/completions", &[("authorization", &bearer)], &chat));
            note(ask(listen, "/v1/messages", &[("x-api-key", TOKEN)], &message(&model, stream)));
        }
    }
    for token in [REVOKED, UNKNOWN] {
        let bearer = format!("Bearer {token}");
        note(ask(listen, "/v1/chat/completions", &[("authorization", &bearer)], &chat("good-openai", false)));
        note(ask(listen, "/v1/messages", &[("x-goog-api-key", token)], &message("good-openai", false)));
    }
    for path in ["/v1/models", "/v1/usage", "/v1/nothing"] {
        note(ask(listen, path, &[("x-api-key", TOKEN)], ""));
    }
    note(ask(listen, "/v1/chat/completions", &[("x-api-key", TOKEN)], "{not json"));
    for model in ["opens", "closed"] {
        let answer = ask(listen, "/v1/chat/completions", &[("x-api-key", TOKEN)], &chat(model, false));
        assert_eq!(answer.status == 200, model == "opens", "{}", answer.body);
        note(answer);
    }
    for path in ["/metrics", "/debug/table", "/debug/credentials", "/readyz"] {
        note(ask(relay.admin(), path, &[], ""));
    }
    seen
}

#[test]
fn no_secret_is_in_logs_metrics_answers_dumps_or_usage_records() {
    let demo = Server::demo();
    let (demo_at, keys) = (demo.listen().to_string(), tempfile::tempdir().expect("a temporary directory"));
    let sealed = sealed_manifests(&demo_at, keys.path());
    let dir = directory(&[("all.yaml", &manifests(&demo_at, &echoing())), ("sealed.yaml", &sealed)]);
    let out = tempfile::tempdir().expect("a temporary directory");
    let usage = out.path().join("usage.jsonl");
    let keys = keys.path().to_str().expect("UTF-8");
    let arguments = ["--usage", usage.to_str().expect("UTF-8"), "--log", "trace", "--sealing-keys", keys];
    let mut relay = Server::run(dir.path(), &arguments, &[("RELAY_KEY_CANARY", FROM_ENV)]);
    let mut seen = exercise(&relay);
    // A Secret that breaks is reported without its text.
    fs::write(dir.path().join("broken.yaml"), format!("kind: Secret\nstringData: {{a: '{GOOD}\n")).expect("writable");
    relay.says("broken.yaml");
    until(|| relay.log().contains("is not valid YAML"), || "the report".into());
    relay.signal("TERM");
    let (code, printed) = relay.end();
    assert_eq!(code, Some(0));
    seen += &printed;
    seen += &relay.log();
    let records = fs::read_to_string(&usage).expect("usage was recorded");
    assert!(records.lines().count() >= 40 && seen.contains("TRACE"), "the exercise is too poor");
    assert!(seen.contains("host: 127.0.0.1"), "the echo was not heard");
    seen += &records;
    for secret in SECRETS {
        if let Some(at) = seen.find(secret) {
            panic!("`{secret}` is in: {}", &seen[at.saturating_sub(300)..(at + 100).min(seen.len())]);
        }
    }
}
