//! Metrics of the operator, in one registry. Each part registers its own before it runs.

use std::sync::atomic::AtomicU64;

use crds::Kind;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{compile::Times, published::Published, world::Standing};

/// Metrics of the operator.
pub struct Metrics {
    registry: Mutex<Registry>,
    compilations: Counter,
    snapshot_seconds: Histogram,
    compile_seconds: Histogram,
    revision: Gauge,
    objects: Family<ObjectLabels, Gauge>,
    failing: Family<CollectionLabels, Gauge>,
    lists: Family<CollectionLabels, Gauge>,
    memory: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    kind: &'static str,
    refused: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CollectionLabels {
    collection: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let seconds = || Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("relay_operator")),
            compilations: Counter::default(),
            snapshot_seconds: seconds(),
            compile_seconds: seconds(),
            revision: Gauge::default(),
            objects: Family::default(),
            failing: Family::default(),
            lists: Family::default(),
            memory: Gauge::default(),
        };
        metrics.register(|registry| {
            let all = &metrics;
            registry.register("compilations", "Compilations of everything", all.compilations.clone());
            registry.register(
                "snapshot_seconds",
                "Taking all objects for one compilation",
                all.snapshot_seconds.clone(),
            );
            registry.register("compile_seconds", "Compiling all objects", all.compile_seconds.clone());
            registry.register("table_revision", "Revision of the table, counted by this process", all.revision.clone());
            registry.register("objects", "Objects by kind, and whether they are refused", all.objects.clone());
            registry.register("watch_failing", "1 where a collection cannot be watched now", all.failing.clone());
            registry.register("watch_lists", "Times that a collection was listed", all.lists.clone());
            registry.register("resident_memory_bytes", "Memory that the process has", all.memory.clone());
        });
        metrics
    }

    /// Lets a part register metrics of its own; names get the prefix `relay_operator_`.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock());
    }

    pub(crate) fn compiled(&self, published: &Published, times: &Times) {
        self.compilations.inc();
        self.snapshot_seconds.observe(times.snapshot_ms / 1e3);
        self.compile_seconds.observe(times.compile_ms / 1e3);
        self.revision.set(i64::try_from(published.revision).unwrap_or(i64::MAX));
        for kind in Kind::ALL {
            for refused in [false, true] {
                let reports = published.reports.iter().filter(|report| report.kind == kind);
                let count = reports.filter(|report| report.is_refused() == refused).count();
                let labels = ObjectLabels { kind: kind.as_str(), refused: if refused { "true" } else { "false" } };
                self.objects.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
    }

    /// All of them in OpenMetrics' text format.
    pub(crate) fn encode(&self, standings: Vec<Standing>) -> String {
        for Standing { name, failing, lists } in standings {
            let labels = CollectionLabels { collection: name };
            self.failing.get_or_create(&labels).set(failing.is_some().into());
            self.lists.get_or_create(&labels).set(i64::try_from(lists).unwrap_or(i64::MAX));
        }
        if let Some(bytes) = resident_memory() {
            self.memory.set(bytes);
        }
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry.lock());
        text
    }
}

/// Memory that the process has, in bytes; absent where the system does not say.
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}
