//! A standalone server does what the tests of others rely on.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use servers::{Options, Redis, Reply};

/// Sends a line to the server's port, as a client would, and gives the first line of the answer.
fn ask(address: SocketAddr, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

/// What `redis-cli` prints when it is given the server's URL.
fn redis_cli(arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(arguments).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim_end().to_owned()
}

#[test]
fn answers_on_its_port_and_over_its_socket() {
    let redis = Redis::start();
    assert_eq!(ask(redis.address(), "SET greeting hello").unwrap(), "+OK");
    assert_eq!(redis.cli(&["GET", "greeting"]), "hello");
    assert_eq!(redis.call(&["GET", "nothing"]), Reply::Nil);
    assert_eq!(redis.url(), format!("redis://{}", redis.address()));
}

#[test]
fn replies_of_every_kind_are_read() {
    let redis = Redis::start();
    assert_eq!(redis.call(&["RPUSH", "list", "a", "b"]), Reply::Integer(2));
    assert_eq!(redis.cli(&["LRANGE", "list", "0", "-1"]), "a\nb");
    assert!(matches!(redis.call(&["INCR", "list"]), Reply::Error(error) if error.starts_with("WRONGTYPE")));
    assert_eq!(redis.call(&["EVAL", "return {1, {'two', false}, ''}", "0"]), {
        let inner = Reply::List(vec![Reply::Text("two".to_owned()), Reply::Nil]);
        Reply::List(vec![Reply::Integer(1), inner, Reply::Text(String::new())])
    });
}

#[test]
#[should_panic(expected = "`GET` answers: ERR wrong number of arguments")]
fn a_command_that_fails_fails_its_test() {
    Redis::start().cli(&["GET"]);
}

#[test]
#[should_panic(expected = "Bad directive or wrong number of arguments")]
fn a_server_that_does_not_start_shows_its_log() {
    Redis::start_with(Options::new().directive("no-such-directive 1"));
}

#[test]
fn a_server_that_is_stopped_answers_once_it_goes_on() {
    let redis = Redis::start();
    redis.stop();
    redis.stop();
    assert!(!redis.is_running());
    let silent = ask(redis.address(), "PING").unwrap_err();
    assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
    redis.cont();
    assert_eq!(ask(redis.address(), "PING").unwrap(), "+PONG");
}

#[test]
fn a_server_that_was_killed_comes_back_empty_on_its_port() {
    let redis = Redis::start();
    let address = redis.address();
    redis.cli(&["SET", "greeting", "hello"]);
    redis.kill();
    assert_eq!(ask(address, "PING").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    redis.restart_empty();
    assert_eq!(ask(address, "DBSIZE").unwrap(), ":0");
}

#[test]
fn a_stopped_server_is_killed_too() {
    let redis = Redis::start();
    let address = redis.address();
    redis.stop();
    drop(redis);
    assert_eq!(ask(address, "PING").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_test_that_panics_leaves_no_server() {
    let mut address = None;
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let redis = Redis::start();
        address = Some(redis.address());
        panic!("as a failing assertion does");
    }));
    assert!(panicked.is_err());
    assert_eq!(ask(address.unwrap(), "PING").unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Set for the process that the test below kills: itself once more.
const TO_BE_KILLED: &str = "SERVERS_TEST_TO_BE_KILLED";

#[test]
fn a_test_that_is_killed_leaves_no_server() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        return serve_until_killed();
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "a_test_that_is_killed_leaves_no_server", "--nocapture"]).env(TO_BE_KILLED, "yes");
    let mut test = test.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(test.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| line.strip_prefix("serving at ")?.parse().ok()).unwrap();
    assert_eq!(ask(address, "PING").unwrap(), "+PONG");

    test.kill().unwrap();
    test.wait().unwrap();

    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(address, "PING").is_ok() {
        assert!(Instant::now() < deadline, "the server outlives its test");
        thread::sleep(Duration::from_millis(5));
    }
}

fn serve_until_killed() {
    let redis = Redis::start();
    println!("\nserving at {}", redis.address());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn scripts_are_forgotten_when_flushed() {
    let redis = Redis::start();
    let sha = redis.cli(&["SCRIPT", "LOAD", "return 1"]);
    assert_eq!(redis.cli(&["EVALSHA", &sha, "0"]), "1");
    redis.flush_scripts();
    assert!(matches!(redis.call(&["EVALSHA", &sha, "0"]), Reply::Error(error) if error.starts_with("NOSCRIPT")));
}

#[test]
fn a_password_is_asked_for() {
    let redis = Redis::start_with(Options::new().password("open-sesame"));
    assert!(ask(redis.address(), "PING").unwrap().starts_with("-NOAUTH"));
    let port = redis.address().port().to_string();
    assert_eq!(redis_cli(&["-p", &port, "-a", "open-sesame", "--no-auth-warning", "PING"]), "PONG");
    assert_eq!(redis.url(), format!("redis://:open-sesame@127.0.0.1:{port}"));
    assert_eq!(redis.cli(&["PING"]), "PONG");
}

#[test]
fn a_user_may_do_what_its_rules_allow() {
    let redis = Redis::start_with(Options::new().user("relay", "open-sesame", "~relay:* +set +ping"));
    assert!(ask(redis.address(), "PING").unwrap().starts_with("-NOAUTH"));
    let url = redis.url();
    assert_eq!(redis_cli(&["-u", &url, "--no-auth-warning", "SET", "relay:a", "1"]), "OK");
    assert!(redis_cli(&["-u", &url, "--no-auth-warning", "SET", "other", "1"]).starts_with("NOPERM"));
}

#[test]
fn tls_is_the_only_way_in_and_its_authority_is_known() {
    let redis = Redis::start_with(Options::new().tls());
    assert_eq!(redis.url(), format!("rediss://{}", redis.address()));
    assert_ne!(ask(redis.address(), "PING").unwrap_or_default(), "+PONG");

    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), redis.options().authority().unwrap()).unwrap();
    let ca = ca.path().to_str().unwrap();
    assert_eq!(redis_cli(&["-u", &redis.url(), "--cacert", ca, "PING"]), "PONG");

    let stranger = Options::new().tls();
    std::fs::write(ca, stranger.authority().unwrap()).unwrap();
    let refused = redis_cli(&["-u", &redis.url(), "--cacert", ca, "PING"]);
    assert!(refused.contains("certificate verify failed"), "{refused}");
}
