//! Posts Events as `events.k8s.io/v1`, one after the other, from a bounded queue: who reports never waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event as Post, EventType, Recorder, Reporter},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Budget, Event};
use crate::status::FIELD_MANAGER;

/// How many Events may wait.
const WAITING: usize = 256;
/// Longest time that the API server may take for one.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest note that the API server takes.
const LONGEST: usize = 1_000;

/// How many Events there were.
#[derive(Clone, Debug, Default)]
pub struct EventMetrics {
    posted: Counter,
    failed: Counter,
    dropped: Counter,
}

impl EventMetrics {
    /// Adds them to what is scraped.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("events_posted", "Events that the API server took", self.posted.clone());
        registry.register("events_failed", "Events that the API server did not take", self.failed.clone());
        registry.register(
            "events_dropped",
            "Events that were too many for their object or for the queue",
            self.dropped.clone(),
        );
    }
}

/// Where Events are handed in.
#[derive(Clone, Debug)]
pub struct Poster {
    queue: mpsc::Sender<Event>,
    metrics: EventMetrics,
}

impl Poster {
    /// A poster, and the work that posts until `stop`. `instance` is the name of this replica's pod.
    pub fn new(
        client: Client,
        instance: String,
        metrics: EventMetrics,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, events) = mpsc::channel(WAITING);
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: Some(instance) };
        let work = post(Recorder::new(client, reporter), events, metrics.clone(), stop);
        (Self { queue, metrics }, work)
    }

    /// Hands an Event in. It may be dropped, which is counted.
    pub fn post(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.metrics.dropped.inc();
        }
    }
}

async fn post(recorder: Recorder, mut events: mpsc::Receiver<Event>, metrics: EventMetrics, stop: CancellationToken) {
    let mut budget = Budget::new(Instant::now());
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = stop.cancelled() => None,
        };
        let Some(event) = event else { return };
        let key = Arc::<str>::from(format!("{} {}", event.kind, event.id));
        if !budget.take(key, Instant::now()) {
            metrics.dropped.inc();
            continue;
        }
        match tokio::time::timeout(LIMIT, recorder.publish(&written(&event), &regarding(&event))).await {
            Ok(Ok(())) => drop(metrics.posted.inc()),
            Ok(Err(error)) => {
                metrics.failed.inc();
                debug!(object = %event.id, reason = event.reason, %error, "the API server did not take an Event");
            }
            Err(_) => drop(metrics.failed.inc()),
        }
    }
}

fn written(event: &Event) -> Post {
    let mut note = event.note.clone();
    if note.len() > LONGEST {
        let end = (0..LONGEST).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
        note.push('…');
    }
    Post {
        type_: if event.is_warning { EventType::Warning } else { EventType::Normal },
        reason: event.reason.to_owned(),
        note: Some(note),
        action: event.action.to_owned(),
        secondary: None,
    }
}

fn regarding(event: &Event) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{}/{}", crds::GROUP, crds::VERSION)),
        kind: Some(event.kind.as_str().to_owned()),
        name: Some(event.id.name.clone()),
        namespace: Some(event.id.namespace.clone()),
        uid: Some(event.uid.clone()),
        ..ObjectReference::default()
    }
}
