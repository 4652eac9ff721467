//! Finds ports for servers. They lie below the range from which the system takes ports for outgoing connections and for
//! port 0, so that a server which is down for a moment finds its port free when it comes back.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// Above those of the Redis servers of other tests, below the system's 32,768.
const FIRST: u16 = 23_000;
const COUNT: u64 = 9_000;

/// A port of 127.0.0.1 on which nobody listens now. Somebody may be faster than the caller.
pub fn free() -> u16 {
    let mut attempts = std::iter::repeat_with(random).take(1_000);
    attempts.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).expect("some port is free")
}

fn random() -> u16 {
    // Each `RandomState` has keys of its own: randomness without a dependency.
    let offset = RandomState::new().hash_one(()) % COUNT;
    FIRST + u16::try_from(offset).expect("an offset is below 9,000")
}
