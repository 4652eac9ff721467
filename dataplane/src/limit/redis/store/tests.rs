//! Against real servers: what a call does, and what is left of it when the server stops, dies, or is another one.

mod boundary;
mod cluster;
mod path;
mod sentinel;
mod standalone;
mod tls;
mod users;

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Store,
    error::StoreError,
    target::{Address, Target},
};
use crate::limit::redis::script::Script;

/// Long enough for a busy machine: where a test wants a timeout it says so.
const PATIENT: Duration = Duration::from_secs(10);

/// Where a test wants a timeout: still long enough for a busy machine to answer where it should.
const HASTY: Duration = Duration::from_secs(1);

fn address(socket: SocketAddr) -> Address {
    Address::new(socket.ip().to_string(), socket.port())
}

fn target(socket: SocketAddr) -> Target {
    Target { timeout: PATIENT, ..Target::standalone(address(socket)) }
}

/// Appends the argument to the list at the key, and gives the list as one string.
fn append() -> Script {
    let text = "redis.call('RPUSH', KEYS[1], ARGV[1]) return table.concat(redis.call('LRANGE', KEYS[1], 0, -1), ' ')";
    Script::new("append", text.to_owned())
}

/// Gives back its argument.
fn echo() -> Script {
    Script::new("echo", "return ARGV[1]".to_owned())
}

fn store(target: Target) -> Store {
    Store::new(target, vec![append(), echo()]).expect("the target is whole")
}

async fn revived(target: Target) -> Store {
    let store = store(target);
    store.revive().await.expect("the server answers");
    store
}

async fn say(store: &Store, key: &str, word: &str) -> Result<String, StoreError> {
    let answer = store.eval(&append(), &[key.to_owned()], word.as_bytes()).await?;
    Ok(String::from_utf8(answer).expect("words are UTF-8"))
}

/// Tries until it succeeds, as a limiter does that wants its Redis back. Gives how long that took.
async fn until_ok<T, F: Future<Output = Result<T, StoreError>>>(mut attempt: impl FnMut() -> F) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return (value, begun.elapsed()),
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "still {error}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}
