use clap::{CommandFactory, Parser};

use super::*;
use crate::limit::redis::store::target::Address;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    redis: RedisConfig,
}

/// The settings of a command line, without the password that the environment of the test may hold.
fn settings(flags: &[&str]) -> RedisConfig {
    let line = Line::try_parse_from([&["relay"], flags].concat()).expect("the flags are well formed");
    RedisConfig { password: None, ..line.redis }
}

fn target(flags: &[&str]) -> Target {
    settings(flags).target().expect("the settings fit together").expect("there is a Redis")
}

fn refused(flags: &[&str]) -> String {
    format!("{:#}", settings(flags).target().expect_err("the settings do not fit together"))
}

fn password(target: &Target) -> Option<&str> {
    match &target.password {
        Some(Password::Fixed(password)) => Some(password.expose()),
        Some(Password::File(_)) | None => None,
    }
}

#[test]
fn without_a_url_there_is_no_redis() {
    assert!(settings(&[]).target().expect("nothing is set").is_none());
    assert!(settings(&["--redis", "", "--redis-ca", ""]).target().expect("nothing is set").is_none());
}

#[test]
fn settings_without_a_url_are_refused_rather_than_forgotten() {
    for flags in [
        ["--redis-mode", "cluster"],
        ["--redis-sentinel-master", "main"],
        ["--redis-username", "relay"],
        ["--redis-password-file", "/nowhere"],
        ["--redis-ca", "/nowhere"],
    ] {
        let words = refused(&flags);
        assert!(words.starts_with(flags[0]) && words.contains("--redis (RELAY_REDIS) is not"), "{words}");
    }
}

#[test]
fn a_url_says_where_and_who() {
    let target = target(&["--redis", "redis://relay:p%40ss%2Cw%2Frd@redis.svc:7000/3"]);
    assert_eq!(target.nodes, [Address::new("redis.svc", 7000)]);
    assert_eq!((target.username.as_deref(), password(&target)), (Some("relay"), Some("p@ss,w/rd")));
    assert_eq!((target.database, target.mode, target.timeout), (3, Mode::Standalone, TIMEOUT));
    assert!(target.tls.is_none());
}

#[test]
fn a_password_needs_no_user_and_ports_and_addresses_have_usual_forms() {
    let target = target(&["--redis", "rediss://:canary@[::1]"]);
    assert_eq!((target.username.as_deref(), password(&target)), (None, Some("canary")));
    assert_eq!(target.nodes, [Address::new("::1", 6379)]);
    assert_eq!(target.nodes[0].to_string(), "[::1]:6379");
    assert!(target.tls.is_some_and(|tls| tls.ca.is_none()));
}

#[test]
fn several_nodes_share_what_one_of_them_says() {
    let url = "redis://relay:canary@a:1,b:2, redis://c,redis://relay:canary@d:4";
    let target = target(&["--redis", url, "--redis-mode", "cluster", "--redis-timeout", "2s"]);
    let nodes = [("a", 1), ("b", 2), ("c", 6379), ("d", 4)].map(|(host, port)| Address::new(host, port));
    assert_eq!(target.nodes, nodes);
    assert_eq!((target.mode, target.timeout), (Mode::Cluster, Duration::from_secs(2)));
}

#[test]
fn sentinels_have_a_port_of_their_own_and_watch_a_name() {
    let flags = ["--redis", "redis://a,b/2", "--redis-mode", "sentinel", "--redis-sentinel-master", "main"];
    let target = target(&flags);
    assert_eq!(target.nodes, [Address::new("a", 26379), Address::new("b", 26379)]);
    assert_eq!((target.mode, target.database), (Mode::Sentinel { master: "main".to_owned() }, 2));
}

#[test]
fn modes_and_nodes_that_do_not_fit_are_refused_with_what_would() {
    let cases: [(&[&str], &str); 5] = [
        (&["--redis", "redis://a,b"], "names 2 nodes, which needs --redis-mode cluster or sentinel"),
        (&["--redis", "redis://a", "--redis-mode", "sentinel"], "needs --redis-sentinel-master"),
        (&["--redis", "redis://a", "--redis-sentinel-master", "main"], "only --redis-mode sentinel knows"),
        (&["--redis", "redis://a/1", "--redis-mode", "cluster"], "a cluster has only 0"),
        (&["--redis", "redis://a", "--redis-ca", "/nowhere"], "TLS needs rediss://"),
    ];
    for (flags, expected) in cases {
        let words = refused(flags);
        assert!(words.contains(expected), "{words}");
    }
}

#[test]
fn urls_that_are_wrong_are_refused_with_what_would_be_right_and_are_not_quoted() {
    let cases = [
        ("canary", "has to begin with redis:// or rediss://"),
        ("http://relay:canary@a", "has to begin with redis:// or rediss://"),
        ("redis://relay:canary@", "it is no URL"),
        ("redis://relay:canary", "it is no URL"),
        ("redis://relay:can,ary@a", "%2C"),
        ("redis://relay:canary@a:99999", "it is no URL"),
        ("redis://relay:canary@a/x", "write its number"),
        ("redis://relay:canary@a/-1", "write its number"),
        ("redis://relay:canary@a?protocol=3", "takes no options"),
        ("redis://relay:canary@a#insecure", "takes no options"),
        ("redis://relay:canary%zz@a", "write `%` as %25"),
        ("redis://relay:canary%2@a", "write `%` as %25"),
        ("redis://relay:canary%ff@a", "not UTF-8"),
        ("redis://relay@a", "a user name but no password"),
        ("redis://a,rediss://canary", "all redis:// or all rediss://"),
        ("redis://relay:canary@a,redis://relay:canary2@b", "different users or passwords"),
        ("redis://a/1,redis://canary/2", "different databases"),
        ("redis://a,http://canary", "node 2 of --redis (RELAY_REDIS)"),
        ("redis://a,,canary", "node 2 of --redis (RELAY_REDIS)"),
    ];
    for (url, expected) in cases {
        let mode = if url.contains(",") { "cluster" } else { "standalone" };
        let words = refused(&["--redis", url, "--redis-mode", mode]);
        assert!(words.contains(expected), "{url}: {words}");
        assert!(!words.contains("can"), "{words}");
    }
}

#[test]
fn neither_settings_nor_target_show_a_password() {
    let flags = ["--redis", "redis://relay:canary@a"];
    assert!(!format!("{:?} {:?}", settings(&flags), target(&flags)).contains("canary"));
    let in_variable =
        RedisConfig { password: Some(Secret::new("canary".to_owned())), ..settings(&["--redis", "redis://a"]) };
    assert!(!format!("{in_variable:?} {:?}", in_variable.target()).contains("canary"));
    let command = Line::command();
    let url = command.get_arguments().find(|argument| argument.get_id() == "redis").expect("there is --redis");
    assert!(url.is_hide_env_values_set(), "--help would show the URL that the environment holds");
}

#[test]
fn a_password_is_given_once() {
    let given = RedisConfig { password: Some(Secret::new("canary".to_owned())), ..settings(&["--redis", "redis://a"]) };
    let target = given.target().expect("the settings fit together").expect("there is a Redis");
    assert_eq!(password(&target), Some("canary"));
    let twice = RedisConfig { url: Some(Secret::new("redis://:canary@a".to_owned())), ..given };
    let words = twice.target().expect_err("one is too many").to_string();
    assert!(words.contains("more than once") && !words.contains("canary"), "{words}");
}

#[test]
fn users_of_two_names_are_refused_and_the_same_one_twice_is_not() {
    let url = "redis://relay:canary@a";
    assert_eq!(target(&["--redis", url, "--redis-username", "relay"]).username.as_deref(), Some("relay"));
    assert!(refused(&["--redis", url, "--redis-username", "other"]).contains("name different users"));
}

#[test]
fn files_are_read_at_the_start_so_that_a_wrong_name_is_said_then() {
    let directory = tempfile::tempdir().expect("a directory");
    let (present, missing) = (directory.path().join("present"), directory.path().join("missing"));
    fs::write(&present, "secret").expect("the file is written");
    let (present, missing) = (present.display().to_string(), missing.display().to_string());
    let url = "rediss://a";
    assert!(matches!(
        target(&["--redis", url, "--redis-password-file", &present]).password,
        Some(Password::File(path)) if path.display().to_string() == present
    ));
    assert_eq!(target(&["--redis", url, "--redis-ca", &present]).tls.and_then(|tls| tls.ca), Some(b"secret".to_vec()));
    for flag in ["--redis-password-file", "--redis-ca"] {
        let words = refused(&["--redis", url, flag, &missing]);
        assert!(words.contains(flag) && words.contains(&missing), "{words}");
    }
}

#[test]
fn timeouts_and_prefixes_have_bounds() {
    for flags in [
        ["--redis-timeout", "0s"],
        ["--redis-timeout", "6s"],
        ["--redis-timeout", "50"],
        ["--redis-prefix", ""],
        ["--redis-prefix", "a{b}"],
        ["--redis-prefix", "a b"],
    ] {
        assert!(Line::try_parse_from([&["relay"], flags.as_slice()].concat()).is_err(), "{flags:?}");
    }
    assert_eq!(settings(&["--redis-prefix", "relay-eu:1"]).prefix, "relay-eu:1");
}

#[test]
fn the_defaults_are_those_of_the_flags() {
    assert_eq!(format!("{:?}", settings(&[])), format!("{:?}", RedisConfig::default()));
}
