//! What becomes of the reservations of a process that was killed.

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    callers::{Call, at_once},
    fleet::{BEARER, Fleet, sums},
    server::{open, until},
};

const PROCESSES: usize = 4;
const STREAMS: usize = 10;
const MAX_TOKENS: u64 = 20;
/// How long a reservation lives whose process has died, and some time for a busy machine.
const LEASE: Duration = Duration::from_secs(30);
const SLACK: Duration = Duration::from_secs(20);

/// Streams that stay open, read up to their first word.
fn held(fleet: &Fleet, number: usize) -> Vec<TcpStream> {
    let body = format!(
        r#"{{"model":"held","stream":true,"max_tokens":{MAX_TOKENS},"messages":[{{"role":"user","content":"hello"}}]}}"#
    );
    let address = fleet.relays[number].listen();
    let one = |_| {
        let mut stream = open(address, "/v1/chat/completions", &[BEARER], &body);
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"hi ") {
            stream.read_exact(&mut byte).expect("the stream begins");
            text.push(byte[0]);
        }
        stream
    };
    (0..STREAMS).map(one).collect()
}

/// Polls for as long as leases last.
fn wait(mut is_so: impl FnMut() -> bool, what: &str) -> Duration {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LEASE + SLACK, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

#[test]
fn what_a_killed_process_held_is_free_within_the_lease_and_its_money_stays_charged() {
    let fleet = Fleet::start(PROCESSES, 1_000_000, 1_000_000_000);
    let call = Call { model: "priced", stream: false, max_tokens: MAX_TOKENS, seed: None, leaves_after: None };
    let addresses = fleet.addresses();
    let seen = at_once(PROCESSES, |number| vec![(addresses[number], call); 5]);
    assert!(seen.iter().all(|seen| seen.status == Some(200)), "{seen:?}");
    fleet.all_settled(&[0, 1, 2, 3]);
    // Records are written in the background: a process that is killed must not have any left.
    until(|| fleet.records(0).len() == 5, || "the records of the first process".to_owned());
    let settled = (fleet.used(1, "tokens_per_day"), fleet.used(1, "budget_total"));
    let _killed = held(&fleet, 0);
    let living = held(&fleet, 1);
    let opened = Instant::now();
    assert_eq!((fleet.held(), fleet.used(1, "concurrency"), fleet.upstream.held()), (20, 20, 20));
    let reserved = (fleet.used(1, "tokens_per_day") - settled.0, fleet.used(1, "budget_total") - settled.1);

    fleet.relays[0].signal("KILL");
    let freed_after = wait(|| fleet.used(2, "concurrency") <= STREAMS as u64, "the places of the dead");
    let tokens_after = fleet.used(2, "tokens_per_day") - settled.0;
    let money_after = fleet.used(2, "budget_total") - settled.1;
    println!(
        "{STREAMS} streams of a killed process gave back their places after {freed_after:.1?}; \
         of {reserved:?} tokens and nano-USD, {:?} were still reserved then",
        (tokens_after, money_after)
    );
    assert_eq!((fleet.held(), fleet.used(2, "concurrency")), (STREAMS, STREAMS as u64));
    assert_eq!((tokens_after, money_after), (reserved.0 / 2, reserved.1));
    // The others live on, longer than any lease that is not renewed.
    wait(|| opened.elapsed() > LEASE, "the time that a lease lasts");
    assert_eq!((fleet.held(), fleet.used(3, "concurrency")), (STREAMS, STREAMS as u64));

    fleet.upstream.let_go();
    drop_when_ended(living);
    fleet.all_settled(&[1, 2, 3]);
    let expected = 5 * PROCESSES + STREAMS;
    let records = || (0..PROCESSES).flat_map(|number| fleet.records(number)).collect::<Vec<_>>();
    until(|| records().len() == expected, || format!("{expected} records, there are {}", records().len()));
    let (tokens, money) = sums(records().iter());
    let lost = reserved.1 / 2;
    println!(
        "settled: {tokens} tokens and {money} nano-USD, and {lost} nano-USD that the killed process may have spent"
    );
    for number in 1..PROCESSES {
        assert_eq!((fleet.used(number, "tokens_per_day"), fleet.used(number, "budget_total")), (tokens, money + lost));
    }
}

/// Reads streams to their ends.
fn drop_when_ended(streams: Vec<TcpStream>) {
    for mut stream in streams {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("the stream ends");
        assert!(rest.contains("[DONE]"), "{rest:?}");
    }
}
