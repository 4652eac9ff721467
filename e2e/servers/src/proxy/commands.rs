//! What a command is called and which keys it names.

use std::{collections::BTreeSet, time::Instant};

use crate::slots::slot_of;

/// A command as a client sent it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its name in capitals, with its second word where that is part of the name: `EVALSHA`, `SCRIPT LOAD`.
    pub name: String,
    /// The script that an `EVALSHA` calls: its SHA-1 in small hexadecimal digits.
    pub sha: Option<String>,
    /// The keys that it names. Each argument of a command that is not known here counts as a key.
    pub keys: Vec<String>,
    /// How long its arguments are together, in bytes.
    pub bytes: usize,
    /// When it reached the proxy.
    pub at: Instant,
}

impl Sent {
    /// The hash slots of its keys.
    pub fn slots(&self) -> BTreeSet<u16> {
        self.keys.iter().map(slot_of).collect()
    }

    /// Reads a command of at least one word.
    pub(super) fn read(words: &[Vec<u8>], at: Instant) -> Self {
        let texts: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let command = texts[0].to_ascii_uppercase();
        let sha = command.starts_with("EVALSHA").then(|| texts.get(1).map(|sha| sha.to_ascii_lowercase())).flatten();
        let keys = keys(&command, &texts[1..]).to_vec();
        let name = match texts.get(1) {
            Some(second) if CONTAINERS.contains(&command.as_str()) => {
                format!("{command} {}", second.to_ascii_uppercase())
            }
            _ => command,
        };
        Self { name, sha, keys, bytes: words.iter().map(Vec::len).sum(), at }
    }
}

/// Commands whose second word says what they do. None of them names a key.
const CONTAINERS: [&str; 6] = ["CLIENT", "CLUSTER", "COMMAND", "CONFIG", "SCRIPT", "SENTINEL"];

/// Commands that name no key.
const KEYLESS: &str = " ASKING AUTH DBSIZE DISCARD ECHO EXEC FLUSHALL FLUSHDB HELLO INFO KEYS MULTI PING PSYNC PUBLISH QUIT \
                       READONLY READWRITE REPLCONF RESET ROLE SCAN SELECT SUBSCRIBE TIME UNSUBSCRIBE UNWATCH WAIT ";

/// Commands whose first argument is their only key.
const ONE_KEY: &str = " DECR DECRBY DUMP EXPIRE EXPIREAT GET GETDEL GETEX GETSET HDEL HEXISTS HGET HGETALL HINCRBY HKEYS HLEN \
                       HMGET HMSET HSCAN HSET HSETNX HVALS INCR INCRBY LLEN LPOP LPUSH LRANGE PERSIST PEXPIRE PEXPIREAT \
                       PSETEX PTTL RESTORE RPOP RPUSH SADD SCARD SET SETEX SETNX SISMEMBER SMEMBERS SREM STRLEN TTL TYPE \
                       ZADD ZCARD ZRANGE ZREM ZSCORE ";

/// Commands that say how many keys follow: a script or function, the number, the keys.
const SCRIPTS: &str = " EVAL EVALSHA EVALSHA_RO EVAL_RO FCALL FCALL_RO ";

/// The keys among the arguments. A command that stands in no list has all of them: a proof about keys that meets it fails
/// rather than passes.
fn keys<'a>(command: &str, arguments: &'a [String]) -> &'a [String] {
    let is_in = |list: &str| list.contains(&format!(" {command} "));
    if is_in(KEYLESS) || CONTAINERS.contains(&command) {
        return &[];
    }
    if is_in(ONE_KEY) {
        return &arguments[..arguments.len().min(1)];
    }
    if is_in(SCRIPTS) {
        let count = arguments.get(1).and_then(|count| count.parse().ok()).unwrap_or(0);
        return arguments.get(2..2 + count).unwrap_or(arguments);
    }
    arguments
}
