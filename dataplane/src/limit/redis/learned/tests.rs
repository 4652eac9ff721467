use servers::Redis;
use table::ObjectRef;

use super::*;
use crate::{
    limit::{
        estimate::Sizes,
        redis::{
            health::Units,
            script::{Scripts, Time},
            store::{
                Store,
                target::{Address, Target},
            },
        },
    },
    metrics::Metrics,
};

const TEXT: Sizes = Sizes { text_bytes: 10_000, messages: 1, tools: 0, images: 0, max_output: None };

/// A process that shares what it learns.
struct Process {
    learned: Arc<Learned>,
    link: Arc<Link>,
}

impl Process {
    async fn start(server: &Redis) -> Self {
        let address = Address::new(server.address().ip().to_string(), server.address().port());
        // Long enough for a machine that has much else to do.
        let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
        let (units, keys) = (Units::of(&target.mode), Keys::new("relay"));
        let scripts = Scripts::new(&Time::Redis);
        let store =
            Store::new(target, vec![scripts.learned.clone(), scripts.recall.clone()]).expect("the target is whole");
        let link = Arc::new(Link::new(store, units, keys.clone(), Arc::new(Metrics::new())));
        link.connect().await;
        let learned = Arc::new(Learned::new(link.clone(), keys, &scripts, Arc::new(Estimator::new())));
        Self { learned, link }
    }

    fn learn(&self, key: &ObjectRef, model: &str, input: u64, output: u64) {
        for _ in 0..50 {
            self.learned.estimator.learn(key, model, &TEXT, input, output);
        }
    }

    fn estimate(&self, key: &ObjectRef) -> (u64, u64) {
        let estimate = self.learned.estimator.estimate(key, "m", &TEXT);
        (estimate.input, estimate.output)
    }
}

fn key() -> ObjectRef {
    ObjectRef::new("team", "a")
}

/// Looks again and again, and never sleeps.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_new_process_knows_what_others_have_learned() {
    let server = Redis::start();
    let (old, new) = (Process::start(&server).await, Process::start(&server).await);
    old.learn(&key(), "m", 5_007, 1_000);
    old.learned.tell().await;
    new.learned.ask("team");
    new.learned.read().await;
    assert_eq!(new.estimate(&key()), old.estimate(&key()));
    assert_ne!(new.estimate(&key()), Process::start(&server).await.estimate(&key()));
    for hash in ["relay:{team}:learned", "relay:{fleet.relay}:rates"] {
        let left: u64 = server.cli(&["PTTL", hash]).parse().expect("the hash ends one day");
        assert!((KEPT_MS - 60_000..=KEPT_MS).contains(&left), "{hash}: {left}");
    }
}

#[tokio::test]
async fn a_namespace_is_read_in_the_background_when_one_of_its_keys_asks() {
    let server = Redis::start();
    let (old, new) = (Process::start(&server).await, Process::start(&server).await);
    old.learn(&key(), "m", 5_007, 1_000);
    old.learned.tell().await;
    // From now on time passes only as this test says: the first tick is the only one.
    tokio::time::pause();
    let stop = CancellationToken::new();
    let task = tokio::spawn({
        let (learned, stop) = (new.learned.clone(), stop.clone());
        async move { learned.run(stop).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_millis(10)).await;
    until("the first tick", || new.learned.unread.lock().is_empty()).await;
    new.learned.ask("team");
    until("what others have learned", || new.estimate(&key()) == old.estimate(&key())).await;
    tokio::time::resume();
    new.learn(&key(), "other", 5_007, 9);
    stop.cancel();
    task.await.expect("it does not panic");
    assert_eq!(server.cli(&["HEXISTS", "relay:{team}:learned", "a/other"]), "1");
}

#[tokio::test]
async fn what_could_not_be_told_or_read_is_tried_again_once_redis_is_back() {
    let server = Redis::start();
    let (old, new) = (Process::start(&server).await, Process::start(&server).await);
    server.kill();
    old.learn(&key(), "m", 5_007, 1_000);
    new.learn(&key(), "other", 5_007, 9);
    new.learned.ask("team");
    for process in [&old, &new] {
        process.learned.read().await;
        process.learned.tell().await;
    }
    server.restart_empty();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    for process in [&old, &new] {
        let (link, stop) = (process.link.clone(), stop.clone());
        tokio::spawn(async move { link.watch(stop).await });
    }
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while new.estimate(&key()) != old.estimate(&key()) {
            old.learned.tell().await;
            new.learned.unread.lock().extend([FLEET.to_owned(), "team".to_owned()]);
            new.learned.read().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect("it is told and read in the end");
    new.learned.tell().await;
    assert_eq!(server.cli(&["HEXISTS", "relay:{team}:learned", "a/other"]), "1");
}

#[tokio::test]
async fn a_full_hash_is_read_whole_and_one_with_too_many_lessons_is_dropped_and_learned_anew() {
    let server = Redis::start();
    let process = Process::start(&server).await;
    let learn = |from: usize, to: usize| {
        for number in from..to {
            process.learned.estimator.learn(&key(), &format!("m-{number}"), &TEXT, 5_007, 9);
        }
    };
    learn(0, MOST_FIELDS);
    process.learned.tell().await;
    let other = Process::start(&server).await;
    other.learned.ask("team");
    other.learned.read().await;
    assert_eq!(*other.learned.unread.lock(), BTreeSet::new());
    for number in 0..MOST_FIELDS {
        let estimate = |of: &Process| of.learned.estimator.estimate(&key(), &format!("m-{number}"), &TEXT);
        assert_eq!(estimate(&other), estimate(&process));
    }
    assert_eq!(other.learned.estimator.drain(), Lessons::default());
    assert_eq!(server.cli(&["HLEN", "relay:{team}:learned"]), MOST_FIELDS.to_string());
    learn(MOST_FIELDS, MOST_FIELDS + 10);
    process.learned.tell().await;
    for hash in ["relay:{team}:learned", "relay:{fleet.relay}:rates"] {
        assert_eq!(server.cli(&["HLEN", hash]), "10");
    }
}
