//! Leaders that are killed while everything changes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::future::join_all;
use kube::{
    Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use site::{Ask, DataPlane, Load, Operator, PATIENCE, Site, Upstream, relay_key, routes};

use crate::{
    census::{self, Dice, is_full, minted_key, token},
    chronicle::Chronicle,
};

/// Of an election that is over soon.
const ELECTION: [&str; 6] = ["--lease-duration", "2s", "--lease-renew-deadline", "1500ms", "--lease-retry", "250ms"];

/// Kills whoever leads every few seconds, and starts it again after a second: for so long, and twice at least.
async fn kill_leaders(operators: &mut [Operator], every: Duration, until: Instant) -> u32 {
    let mut kills = 0;
    while Instant::now() < until || (kills < 2 && Instant::now() < until + PATIENCE) {
        tokio::time::sleep(every - Duration::from_secs(1)).await;
        let leading = join_all(operators.iter().map(Operator::is_leading)).await;
        let Some(leader) = leading.iter().position(|leads| *leads) else { continue };
        operators[leader].daemon.kill();
        kills += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        operators[leader].daemon.restart().await;
    }
    kills
}

/// Creates, changes and deletes objects of four kinds, some of them again under the same names.
async fn churn(client: &Client, namespace: &str, until: Instant) -> [usize; 3] {
    let (mut dice, mut done) = (Dice::new(4), [0; 3]);
    while Instant::now() < until {
        let n = dice.below(12);
        let (kind, name) = [
            ("RelayKey", format!("minted-{n}")),
            ("RelayKey", format!("brought-{n}")),
            ("Policy", format!("policy-{n}")),
            ("Model", format!("model-{n}")),
        ][usize::try_from(dice.below(4)).expect("there are four")]
        .clone();
        let objects = census::api(client, namespace, kind);
        let is_there = objects.get_opt(&name).await.expect("the API server answers").is_some();
        if !is_there {
            let object = match (kind, name.starts_with("minted")) {
                ("RelayKey", true) => minted_key(&name),
                ("RelayKey", false) => census::relay_key(&name, "all", &token(&name)),
                ("Policy", _) => census::policy(&name, &["openai"]),
                _ => census::model(&name, "openai"),
            };
            census::create(client, namespace, vec![object]).await;
            done[0] += 1;
        } else if dice.below(3) > 0 {
            let number = dice.below(1_000);
            let spec = match kind {
                "RelayKey" => json!({"limits": {"rpm": 1_000 + number}}),
                "Policy" => json!({"models": {"allow": ["openai", format!("model-{number}")]}}),
                _ => json!({"aliases": [format!("{name}-{number}")]}),
            };
            let patch = Patch::Merge(json!({ "spec": spec }));
            objects.patch(&name, &PatchParams::default(), &patch).await.expect("an object is changed");
            done[1] += 1;
        } else {
            objects.delete(&name, &DeleteParams::default()).await.expect("an object is deleted");
            done[2] += 1;
        }
        tokio::time::sleep(Duration::from_millis(dice.below(80))).await;
    }
    done
}

struct Streams {
    streams: u64,
    snapshots: u64,
    rows: u64,
}

impl Streams {
    async fn of(pod: &DataPlane) -> Self {
        let feed = pod.feed().await;
        let number = |name: &str| feed[name].as_u64().expect("it is counted");
        Self { streams: number("streams"), snapshots: number("snapshots"), rows: number("snapshotRows") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_are_killed_while_objects_change_are_not_noticed() {
    let Some(site) = Site::shared().await else { return };
    let time = Duration::from_secs(if is_full() { 60 } else { 12 });
    // Tables of this size are compared by parts when a stream is resumed.
    let static_keys: u64 = 500;
    let (client, upstream) = (site.plane.client().await, Upstream::start().await);
    let mut operators = site.operators(3, &ELECTION).await;
    site.apply(&(routes(&upstream.url()) + &relay_key("steady")));
    let keys = (0..static_keys).map(|n| format!("static-{n}"));
    let keys = keys.map(|name| census::relay_key(&name, "all", &token(&name))).collect();
    census::create(&client, &site.namespace, keys).await;
    let pods = [site.data_plane("pod-0").await, site.data_plane("pod-1").await, site.data_plane("pod-2").await];
    census::converged(&client, &site.namespace, |_| false).await;

    let before = join_all(pods.iter().map(Streams::of)).await;
    let chronicle = Chronicle::start(&client, &site.namespace).await;
    let steady = Ask::openai("openai", &site.secret("steady", "token"));
    let addresses: Vec<_> = pods.iter().map(|pod| pod.address).collect();
    let load = Load::start(&steady, &addresses, Duration::from_millis(20), 200);
    let until = Instant::now() + time;
    let killing = kill_leaders(&mut operators, Duration::from_secs(4), until);
    let (kills, done) = tokio::join!(killing, churn(&client, &site.namespace, until));
    let changed = Instant::now();
    let all = census::converged(&client, &site.namespace, |_| false).await;
    let tally = load.tally();
    drop(load);
    let [created, patched, deleted] = done;
    println!(
        "{kills} leaders killed in {time:?}, {created} objects created, {patched} changed, {deleted} deleted; all {} said \
         to be ready {:?} later; requests: {:?}, the longest {:?}",
        all.len(),
        changed.elapsed(),
        tally.answers,
        tally.longest
    );
    assert!(kills > 1, "leaders were killed");
    tally.assert_all(200);

    let (statuses, flaps) = chronicle.seen(|seen| (seen.statuses, seen.flaps.clone()));
    println!("{statuses} versions of objects seen");
    assert!(flaps.is_empty(), "{} statuses flapped: {}", flaps.len(), flaps.join("\n"));
    let (twice, made) = chronicle.seen(|seen| (format!("{:?}", seen.minted_twice()), seen.made().clone()));
    assert_eq!(twice, "[]", "no RelayKey had two tokens");
    println!("{} tokens were made", made.len());

    // Of the keys that are gone none works, and of those that are there all do.
    let there: BTreeSet<&String> = all.iter().map(|said| &said.uid).collect();
    for (uid, token) in &made {
        for pod in &pods {
            let answer = pod.ask(&Ask::openai("openai", token)).await;
            let wanted = if there.contains(uid) { 200 } else { 401 };
            assert_eq!(answer.status, wanted, "{}", answer.text());
        }
    }

    for (pod, before) in pods.iter().zip(before) {
        let now = Streams::of(pod).await;
        let (streams, snapshots, rows) =
            (now.streams - before.streams, now.snapshots - before.snapshots, now.rows - before.rows);
        println!("{}: {streams} streams, {snapshots} snapshots of {rows} rows", pod.pod.name);
        assert!(rows < (snapshots + 1) * static_keys / 2, "who comes back is sent what differs, not everything");
    }
}
