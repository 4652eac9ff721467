//! The loop at the heart: a change settles, the whole world is compiled, and what came of it is handed on.

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use compiler::{Compilation, Resources};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    debounce::Urgency,
    fleets::{self, Load},
    metrics::Metrics,
    published::Published,
    workshop::Workshop,
    world::{Snapshot, World},
};

/// Compiles a world whenever it changed.
pub struct Compiler {
    world: Arc<World>,
    metrics: Arc<Metrics>,
    published: watch::Sender<Option<Arc<Published>>>,
    last: Option<Arc<Published>>,
    workshop: Workshop,
}

impl Compiler {
    /// Has compiled nothing yet. Errs where the system starts no thread for it.
    pub fn new(world: Arc<World>, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let workshop = Workshop::open("compile").context("starting the thread that compiles")?;
        Ok(Self { world, metrics, published: watch::Sender::new(None), last: None, workshop })
    }

    /// What was compiled last; absent until everything was heard of once.
    pub fn published(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.published.subscribe()
    }

    /// Compiles until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while let Some(urgency) = stop.run_until_cancelled(self.world.bell().settled()).await {
            self.refresh(urgency).await;
        }
    }

    async fn refresh(&mut self, urgency: Urgency) {
        let (world, last) = (self.world.clone(), self.last.clone());
        // Compiling takes tens of milliseconds where there is much, and streams must not wait for it.
        let compiled = self.workshop.done(move || compiled(&world, last.as_deref(), urgency)).await;
        let Some(Some((published, times))) = compiled else { return };
        self.metrics.compiled(&published, &times);
        let Times { snapshot_ms, compile_ms } = times;
        if self.last.as_ref().is_none_or(|last| last.revision != published.revision) {
            let (revision, objects) = (published.revision, published.reports.len());
            info!(revision, objects, snapshot_ms, compile_ms, source = %published.source_vector, "the routing table changed");
        } else {
            debug!(snapshot_ms, compile_ms, "the routing table is the same");
        }
        let published = Arc::new(published);
        self.last = Some(published.clone());
        self.published.send_replace(Some(published));
    }
}

/// How long the parts of a compilation took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) snapshot_ms: f64,
    pub(crate) compile_ms: f64,
}

/// What the world means now; absent where it has not been heard of completely.
fn compiled(world: &World, last: Option<&Published>, urgency: Urgency) -> Option<(Published, Times)> {
    let begun = Instant::now();
    let nothing = Resources::default();
    let before = last.map_or(&nothing, |last| &last.resources);
    world.want(before);
    if last.is_none()
        && let Some(missing) = world.missing()
    {
        debug!("nothing is published yet: {missing}");
        return None;
    }
    let snapshot = world.snapshot(before);
    let snapshot_ms = begun.elapsed().as_secs_f64() * 1e3;
    let compilation = compiler::compile(&snapshot.resources);
    let compile_ms = begun.elapsed().as_secs_f64() * 1e3 - snapshot_ms;
    Some((merge(last, snapshot, compilation, urgency), Times { snapshot_ms, compile_ms }))
}

/// What stayed the same is the same value, so that whoever gets it sees that at once.
fn merge(last: Option<&Published>, snapshot: Snapshot, compilation: Compilation, urgency: Urgency) -> Published {
    let Snapshot { resources, data_planes, source_vector } = snapshot;
    let Compilation { table, credentials, reports } = compilation;
    let same_reports = last.filter(|last| *last.reports == reports).map(|last| last.reports.clone());
    let whole = Load::new(table, credentials, last.map(|last| (&last.table, &last.credentials)));
    let fleets = fleets::compiled(&resources, data_planes, &whole, last.map(|last| &last.fleets));
    let is_same = last.is_some_and(|last| {
        Arc::ptr_eq(&last.table, &whole.table)
            && Arc::ptr_eq(&last.credentials, &whole.credentials)
            && fleets::carry_the_same(&last.fleets, &fleets)
    });
    let (revision, urgent_revision) = last.map_or((0, 0), |last| (last.revision, last.urgent_revision));
    let revision = revision + u64::from(!is_same);
    Published {
        revision,
        table: whole.table,
        credentials: whole.credentials,
        fleets,
        reports: same_reports.unwrap_or_else(|| Arc::new(reports)),
        resources: Arc::new(resources),
        source_vector,
        urgent_revision: if !is_same && urgency == Urgency::Urgent { revision } else { urgent_revision },
    }
}
