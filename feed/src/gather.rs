//! Where acknowledgements meet: each server sees its own streams alone, so those that write no status send what their
//! data planes answered to the one that does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use futures::future::select_all;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::warn;

use crate::{
    client::backoff::Backoff,
    connect::Connector,
    fleet::Pod,
    publisher::Publisher,
    vector::Regression,
    wire::{AheadOf, FleetNews, PodNews, RefusedRevision, bytes_of, digest_of},
};

/// Changes within this time go as one.
const QUIET: Duration = Duration::from_millis(50);

/// So many data planes stand in one message at most.
const PODS: usize = 500;

/// What other servers said about their data planes. A handle: clones hold the same.
#[derive(Clone, Default)]
pub struct Gathered(Arc<Told>);

/// Data planes by fleet and UID.
type Said = BTreeMap<(String, String), Pod>;

/// What one stream said.
#[derive(Default)]
struct Stream {
    /// The server whose stream it is; empty until it says.
    server_id: String,
    said: Said,
}

#[derive(Default)]
struct Told {
    /// By stream: what a stream said goes when it ends.
    streams: Mutex<BTreeMap<u64, Stream>>,
    changed: watch::Sender<u64>,
}

impl Gathered {
    /// The data planes on other servers, and on `own`, each with its fleet; of a pod that is named twice, the newer stream.
    pub fn pods(&self, own: Vec<(String, Pod)>) -> Vec<(String, Pod)> {
        let mut newest: BTreeMap<String, (String, Pod)> =
            own.into_iter().map(|(fleet, pod)| (pod.uid.clone(), (fleet, pod))).collect();
        for ((fleet, uid), pod) in self.0.streams.lock().values().flat_map(|stream| &stream.said) {
            if newest.get(uid).is_none_or(|(_, known)| known.since_ms < pod.since_ms) {
                newest.insert(uid.clone(), (fleet.clone(), pod.clone()));
            }
        }
        newest.into_values().collect()
    }

    /// Wakes whenever [`Gathered::pods`] may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Takes the news of one server until it ends the stream.
    pub(crate) async fn take(&self, mut news: Streaming<FleetNews>) -> Result<(), Status> {
        let stream = {
            let mut streams = self.0.streams.lock();
            let stream = streams.last_key_value().map_or(0, |(last, _)| last + 1);
            streams.insert(stream, Stream::default());
            stream
        };
        let _told = Taken(self.clone(), stream);
        while let Some(news) = news.message().await? {
            if !self.note(stream, news) {
                return Err(Status::aborted("another stream of this server has taken its place"));
            }
            self.0.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Takes a message in; false where a newer stream of the same server is there.
    fn note(&self, stream: u64, news: FleetNews) -> bool {
        let FleetNews { server_id, fleet, pods, gone } = news;
        let mut streams = self.0.streams.lock();
        // A server that comes anew may do so before its old connection is known to be dead.
        streams.retain(|id, known| *id >= stream || known.server_id != server_id);
        let Some(Stream { server_id: known, said }) = streams.get_mut(&stream) else { return false };
        *known = server_id;
        said.extend(pods.into_iter().map(|pod| ((fleet.clone(), pod.uid.clone()), from_wire(pod))));
        for uid in gone {
            said.remove(&(fleet.clone(), uid));
        }
        true
    }
}

/// Forgets what a stream said, however it ends.
struct Taken(Gathered, u64);

impl Drop for Taken {
    fn drop(&mut self) {
        let Self(Gathered(told), stream) = self;
        told.streams.lock().remove(stream);
        told.changed.send_modify(|count| *count += 1);
    }
}

/// Sends what the data planes of these fleets answer to the server that `connector` reaches, until `stop`; connects again
/// for as long.
pub async fn follow(
    server_id: &str,
    fleets: watch::Receiver<BTreeMap<String, Publisher>>,
    connector: &Connector,
    stop: &CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut trouble = None;
    loop {
        let end = tokio::select! {
            () = stop.cancelled() => return,
            end = tell(server_id, fleets.clone(), connector, &mut backoff) => end,
        };
        let words = end.err().map(|error| format!("{error:#}"));
        if let Some(words) = words.as_ref().filter(|words| trouble.as_ref() != Some(*words)) {
            warn!(error = words, "what data planes answered does not reach the one that writes status: {words}");
        }
        trouble = words;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.wait()) => {}
        }
    }
}

async fn tell(
    server_id: &str,
    fleets: watch::Receiver<BTreeMap<String, Publisher>>,
    connector: &Connector,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let mut connection = connector.open().await?;
    let (news, outbound) = mpsc::channel(4);
    let request = connection.request(ReceiverStream::new(outbound));
    tokio::select! {
        ended = connection.client.gather(request) => {
            ended.map_err(|status| anyhow::anyhow!("the server says {:?}: {}", status.code(), status.message()))?;
            Ok(())
        }
        sent = send(server_id, fleets, &news, backoff) => sent,
    }
}

/// Sends everything first, and then what changes.
async fn send(
    server_id: &str,
    mut fleets: watch::Receiver<BTreeMap<String, Publisher>>,
    news: &mpsc::Sender<FleetNews>,
    backoff: &mut Backoff,
) -> anyhow::Result<()> {
    let mut told: BTreeMap<String, BTreeMap<String, Pod>> = BTreeMap::new();
    loop {
        let served = fleets.borrow_and_update().clone();
        // Subscribed before they are asked, so that no change falls between.
        let mut changes: Vec<_> = served.values().map(|publisher| publisher.fleet().changes()).collect();
        let mut now: BTreeMap<String, BTreeMap<String, Pod>> = BTreeMap::new();
        for (fleet, publisher) in &served {
            let pods = publisher.fleet().pods().into_iter().map(|pod| (pod.uid.clone(), pod));
            now.insert(fleet.clone(), pods.collect());
        }
        let nobody = BTreeMap::new();
        let ended = told.keys().filter(|fleet| !now.contains_key(*fleet)).map(|fleet| (fleet, &nobody));
        for (fleet, pods) in now.iter().chain(ended) {
            for message in differences(server_id, fleet, told.get(fleet), pods) {
                news.send(message).await.ok().context("the stream of news was closed")?;
            }
        }
        told = now;
        let any = async {
            if changes.is_empty() {
                return std::future::pending().await;
            }
            select_all(changes.iter_mut().map(|changes| Box::pin(changes.changed()))).await.0
        };
        tokio::select! {
            changed = fleets.changed() => changed.context("nobody serves any more")?,
            changed = any => changed.context("a fleet is gone")?,
        }
        backoff.reset();
        sleep(QUIET).await;
    }
}

/// What makes somebody who was told `before` know `pods`.
fn differences(
    server_id: &str,
    fleet: &str,
    before: Option<&BTreeMap<String, Pod>>,
    pods: &BTreeMap<String, Pod>,
) -> Vec<FleetNews> {
    let nothing = BTreeMap::new();
    let before = before.unwrap_or(&nothing);
    let changed: Vec<_> = pods.iter().filter(|(uid, pod)| before.get(*uid) != Some(pod)).collect();
    let gone: Vec<_> = before.keys().filter(|uid| !pods.contains_key(*uid)).cloned().collect();
    let news = |pods, gone| FleetNews { server_id: server_id.to_owned(), fleet: fleet.to_owned(), pods, gone };
    let mut messages: Vec<_> =
        changed.chunks(PODS).map(|pods| news(pods.iter().map(|(_, pod)| to_wire(pod)).collect(), Vec::new())).collect();
    if !gone.is_empty() {
        messages.push(news(Vec::new(), gone));
    }
    messages
}

fn to_wire(pod: &Pod) -> PodNews {
    let refused = |(revision, fault, message): &(u64, crate::wire::Fault, String)| RefusedRevision {
        revision: *revision,
        fault: (*fault).into(),
        message: message.clone(),
    };
    let ahead = |Regression { kind, held, offered }: &Regression| AheadOf {
        kind: kind.clone(),
        held: *held,
        offered: *offered,
    };
    PodNews {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        node: pod.node.clone(),
        build: pod.build.clone(),
        restored: pod.restored,
        root: pod.root.as_ref().map(bytes_of).unwrap_or_default(),
        revision: pod.revision,
        apply_micros: pod.apply_micros,
        rejections: pod.rejections.clone(),
        refused: pod.refused.as_ref().map(refused),
        ahead: pod.ahead.as_ref().map(ahead),
        report: Some(pod.report.clone()),
        since_ms: pod.since_ms,
    }
}

fn from_wire(news: PodNews) -> Pod {
    let fault = |refused: &RefusedRevision| refused.fault();
    Pod {
        namespace: news.namespace,
        name: news.name,
        uid: news.uid,
        node: news.node,
        build: news.build,
        restored: news.restored,
        root: digest_of(&news.root),
        revision: news.revision,
        apply_micros: news.apply_micros,
        rejections: news.rejections,
        refused: news.refused.map(|refused| (refused.revision, fault(&refused), refused.message)),
        ahead: news.ahead.map(|AheadOf { kind, held, offered }| Regression { kind, held, offered }),
        report: news.report.unwrap_or_default(),
        since_ms: news.since_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Fault, Report};

    fn pod(uid: &str, since_ms: u64) -> Pod {
        Pod {
            namespace: "apps".into(),
            name: format!("pod-{uid}"),
            uid: uid.into(),
            node: "node".into(),
            build: "1.0".into(),
            restored: true,
            root: Some(table::Digest::of(&uid)),
            revision: 7,
            apply_micros: 3,
            rejections: vec![crate::wire::Rejection { key: "a/b".into(), ..Default::default() }],
            refused: Some((8, Fault::Unusable, "why".into())),
            ahead: Some(Regression { kind: "hosts".into(), held: 2, offered: 1 }),
            report: Report { in_flight: 4, ..Report::default() },
            since_ms,
        }
    }

    fn by_uid(pods: impl IntoIterator<Item = Pod>) -> BTreeMap<String, Pod> {
        pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect()
    }

    #[test]
    fn what_a_pod_answered_reads_back_from_the_wire() {
        assert_eq!(from_wire(to_wire(&pod("a", 1))), pod("a", 1));
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = by_uid([pod("a", 1), pod("b", 1), pod("c", 1)]);
        let after = by_uid([pod("a", 1), pod("b", 2), pod("d", 1)]);
        let news = differences("one", "default", Some(&before), &after);
        let told: Vec<_> = news.iter().flat_map(|news| news.pods.iter().map(|pod| pod.uid.as_str())).collect();
        let gone: Vec<_> = news.iter().flat_map(|news| &news.gone).map(String::as_str).collect();
        assert_eq!((told, gone), (vec!["b", "d"], vec!["c"]));
        assert!(differences("one", "default", Some(&after), &after).is_empty());
    }

    fn news(server_id: &str, fleet: &str, pod: Pod) -> FleetNews {
        FleetNews { server_id: server_id.into(), fleet: fleet.into(), pods: vec![to_wire(&pod)], gone: Vec::new() }
    }

    fn hearing(streams: &[u64]) -> Gathered {
        let gathered = Gathered::default();
        gathered.0.streams.lock().extend(streams.iter().map(|stream| (*stream, Stream::default())));
        gathered
    }

    fn of(fleet: &str, pod: Pod) -> (String, Pod) {
        (fleet.to_owned(), pod)
    }

    #[test]
    fn of_a_pod_on_two_servers_the_newer_stream_counts() {
        let gathered = hearing(&[0]);
        assert!(gathered.note(0, news("one", "default", pod("a", 5))));
        assert!(gathered.note(0, news("one", "other", pod("b", 5))));
        let own = vec![of("default", pod("a", 4)), of("default", pod("c", 1))];
        let both = [of("default", pod("a", 5)), of("other", pod("b", 5)), of("default", pod("c", 1))];
        assert_eq!(gathered.pods(own), both);
        assert_eq!(gathered.pods(vec![of("edge", pod("a", 6))])[0], of("edge", pod("a", 6)), "it changed its fleet");
    }

    #[test]
    fn a_server_that_comes_anew_takes_the_place_of_its_old_stream() {
        let gathered = hearing(&[0, 1, 2]);
        assert!(gathered.note(0, news("one", "default", pod("a", 1))));
        assert!(gathered.note(1, news("two", "default", pod("b", 1))));
        assert!(gathered.note(2, news("one", "default", pod("c", 1))));
        assert_eq!(gathered.pods(Vec::new()), [of("default", pod("b", 1)), of("default", pod("c", 1))]);
        assert!(!gathered.note(0, news("one", "default", pod("a", 1))), "what the old stream still says is not taken");
        assert_eq!(gathered.pods(Vec::new()).len(), 2);
    }
}
