//! The least permissions that `docs/limits.md` gives Relay's user at Redis are those that it needs, and no more.

use std::{collections::BTreeSet, fs, path::Path};

const DOCUMENT: &str = include_str!("../../docs/limits.md");

/// What is sent beside scripts: to say who we are, to know the server, to call scripts, and to read what was learned.
const OUTSIDE_SCRIPTS: [&str; 14] = [
    "ping",
    "role",
    "select",
    "client|id",
    "client|setname",
    "client|kill",
    "eval",
    "evalsha",
    "script|load",
    "cluster|info",
    "cluster|slots",
    "asking",
    "set",
    "hgetall",
];

/// The commands that scripts call, in lower case. Redis asks for the right to them as if the user had sent them.
fn in_scripts() -> BTreeSet<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/limit/redis/lua");
    let files = fs::read_dir(scripts).expect("scripts are there").map(|file| file.expect("it is listed").path());
    let texts = files.map(|file| fs::read_to_string(file).expect("it is text"));
    texts.flat_map(|text| commands(&text)).collect()
}

/// The words in capitals behind `call('`, which is `redis.call(` too, and `later('`, which keeps a command for the end.
fn commands(script: &str) -> Vec<String> {
    let called = ["call('", "later('"].into_iter().flat_map(|call| script.split(call).skip(1));
    called.filter_map(|rest| rest.split('\'').next()).map(str::to_lowercase).collect()
}

fn documented() -> BTreeSet<String> {
    let (_, rest) = DOCUMENT.split_once("<!-- acl -->").expect("the page has the rule");
    let (rule, _) = rest.split_once("<!-- end -->").expect("the rule ends");
    rule.split_whitespace().filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect()
}

#[test]
fn the_documented_user_may_do_what_is_needed_and_nothing_else() {
    let needed = in_scripts().into_iter().chain(OUTSIDE_SCRIPTS.map(str::to_owned)).collect::<BTreeSet<_>>();
    assert!(needed.contains("time"), "scripts were read: {needed:?}");
    assert_eq!(documented(), needed, "the rule of docs/limits.md (left) has to grant what is needed (right)");
}
