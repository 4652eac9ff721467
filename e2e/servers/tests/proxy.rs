//! The counting proxy does what the tests of others rely on.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, ErrorKind, Write},
    net::TcpStream,
    time::Duration,
};

use servers::{CountingProxy, Redis, slot_of};

/// A client that sends words and reads the first line of each answer.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(proxy: &CountingProxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, words: &str) {
        let words: Vec<_> = words.split(' ').map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        self.0.get_mut().write_all(format!("*{}\r\n{}", words.len(), words.concat()).as_bytes()).unwrap();
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    fn ask(&mut self, words: &str) -> std::io::Result<String> {
        self.send(words);
        self.line()
    }

    /// Whether nothing comes within the time that this client waits.
    fn hears_nothing(&mut self) -> bool {
        self.line().is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    fn is_closed(&mut self) -> bool {
        self.line().is_err_and(|error| matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset))
    }
}

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn counts_commands_by_name_and_scripts_by_sha() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let sha = redis.cli(&["SCRIPT", "LOAD", "return 1"]);
    let mut client = Client::connect(&proxy);

    assert_eq!(client.ask("ping").unwrap(), "+PONG");
    assert_eq!(client.ask("script exists 0").unwrap(), "*1");
    assert_eq!(client.line().unwrap(), ":0");
    assert_eq!(client.ask(&format!("evalsha {sha} 2 {{t}}a {{t}}b argument")).unwrap(), ":1");
    assert_eq!(client.ask(&format!("EVALSHA {} 0", sha.to_uppercase())).unwrap(), ":1");

    assert_eq!(proxy.counts(), counts([("EVALSHA", 2), ("PING", 1), ("SCRIPT EXISTS", 1)]));
    assert_eq!(proxy.scripts(), counts([(&sha, 2)]));
    let commands = proxy.commands();
    assert_eq!(commands[2].keys, ["{t}a", "{t}b"]);
    assert_eq!(commands[2].slots(), [slot_of("t")].into());
    assert!(commands.is_sorted_by_key(|sent| sent.at));
    proxy.forget();
    assert_eq!(proxy.counts(), counts([]));
}

#[test]
fn counts_each_command_of_a_pipeline() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    for number in 0..100 {
        client.send(&format!("SET key{number} {}", "x".repeat(10_000)));
    }
    assert!((0..100).all(|_| client.line().unwrap() == "+OK"));
    assert_eq!(proxy.counts(), counts([("SET", 100)]));
    assert_eq!(redis.cli(&["DBSIZE"]), "100");
}

#[test]
fn names_the_keys_that_the_server_would_name() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let known =
        ["GET a", "SET a b PX 10 NX", "HSET a b c", "HGETALL a", "EVAL script 2 a b c", "FCALL f 1 a b", "INCRBY a 1"];
    let same_for_all =
        ["DEL a b c", "EXISTS a b", "MGET a b", "UNLINK a", "EVALSHA 0000 1 a b", "ZADD a 1 b", "RESTORE a 0 b"];
    for command in known.into_iter().chain(same_for_all) {
        let words: Vec<_> = ["COMMAND", "GETKEYS"].into_iter().chain(command.split(' ')).collect();
        drop(Client::connect(&proxy).ask(command));
        let sent = proxy.commands().pop().unwrap();
        assert_eq!(sent.keys, redis.cli(&words).lines().collect::<Vec<_>>(), "{command}");
    }
}

#[test]
fn a_command_that_is_not_known_has_all_its_arguments_as_keys() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    drop(Client::connect(&proxy).ask("GEOADD a b"));
    assert_eq!(proxy.commands()[0].keys, ["a", "b"]);
    assert_eq!(proxy.commands()[0].slots().len(), 2);
}

#[test]
fn what_is_stalled_flows_afterwards() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    assert_eq!(client.ask("PING").unwrap(), "+PONG");

    proxy.stall();
    client.send("INCR a");
    assert!(client.hears_nothing());
    assert!(Client::connect(&proxy).ask("PING").is_err());
    assert_eq!(redis.cli(&["EXISTS", "a"]), "0");

    proxy.resume();
    assert_eq!(client.line().unwrap(), ":1");
}

#[test]
fn commands_whose_replies_are_lost_arrive_all_the_same() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    proxy.lose_replies();
    client.send("INCR a");
    assert!(client.hears_nothing());
    assert_eq!(redis.cli(&["GET", "a"]), "1");

    proxy.resume();
    assert!(client.is_closed(), "a later reply would answer the lost command");
    assert_eq!(Client::connect(&proxy).ask("INCR a").unwrap(), ":2");
}

#[test]
fn connections_are_cut_and_new_ones_served() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    assert_eq!(proxy.connections(), 1);

    proxy.cut();
    assert!(client.is_closed());
    assert_eq!(proxy.connections(), 0);
    assert_eq!(Client::connect(&proxy).ask("PING").unwrap(), "+PONG");
}

#[test]
fn connections_are_refused_until_it_resumes() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    assert_eq!(client.ask("PING").unwrap(), "+PONG");

    proxy.refuse();
    assert!(client.is_closed());
    assert!(Client::connect(&proxy).is_closed());
    proxy.resume();
    assert_eq!(Client::connect(&proxy).ask("PING").unwrap(), "+PONG");
}

#[test]
fn a_server_that_dies_takes_its_connections_along() {
    let redis = Redis::start();
    let proxy = CountingProxy::start(redis.address());
    let mut client = Client::connect(&proxy);
    assert_eq!(client.ask("PING").unwrap(), "+PONG");
    redis.kill();
    assert!(client.is_closed());
    assert!(Client::connect(&proxy).is_closed());
    redis.restart_empty();
    assert_eq!(Client::connect(&proxy).ask("PING").unwrap(), "+PONG");
}
