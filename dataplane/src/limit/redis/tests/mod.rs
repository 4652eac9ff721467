//! The limiter on real Redis servers.

mod amended;
mod batching;
mod bench;
mod breakers;
mod contract;
mod late;
mod leased;
mod losses;
mod model;
mod places;
mod rush;
mod sizes;
mod stored;
mod versions;

use std::sync::Arc;

use crate::{
    limit::estimate::Estimator,
    meter::{
        Books,
        logs::Logs,
        sinks::{Sinks, Target},
    },
    metrics::Metrics,
    spans::Spans,
};

fn books() -> Books {
    let metrics = Arc::new(Metrics::new());
    let (sinks, spans) = (Sinks::new(Target::None, metrics.clone()), Spans::none());
    Books { metrics, sinks, logs: Logs::none(), spans, estimator: Arc::new(Estimator::new()) }
}
