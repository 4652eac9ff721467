//! Finds ports for servers. They lie below the range from which the system takes ports for outgoing connections and for
//! port 0, so that a server which is down for a moment finds its port free when it comes back.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
};

/// Where ports are taken from. A cluster node also listens 10,000 above its port: still below the system's 32,768.
const FIRST: u16 = 12_000;
const COUNT: u64 = 10_000;

/// How far above its port a cluster node talks to the others.
pub(crate) const BUS: u16 = 10_000;

/// A port on which nobody listens now, nor on the bus port that belongs to it. Somebody may be faster than the caller.
pub(crate) fn free() -> u16 {
    let mut attempts = std::iter::repeat_with(random).take(1_000);
    attempts.find(|port| is_free(*port) && is_free(port + BUS)).expect("some port of ten thousand is free")
}

fn random() -> u16 {
    // Each `RandomState` has keys of its own: randomness without a dependency.
    let offset = RandomState::new().hash_one(()) % COUNT;
    FIRST + u16::try_from(offset).expect("an offset is below 10,000")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
