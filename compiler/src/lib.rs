//! What Relay resources mean: a pure function from resources to the routing table.
//!
//! No clock, no memory, no I/O and no failure: every object gets a report, and a bad object costs only itself. It stays
//! in the table as an invalid row, so that a request which meets it gets an explained error.

mod address;
mod dialect;
mod durations;
mod host;
mod host_key;
mod model;
mod policy;
mod precedence;
mod pricing;
mod relay_key;
mod reports;
mod resolve;
mod resources;
mod shared;
mod suggest;

pub use reports::{Condition, ConditionType, Reason, Report};
pub use resources::{Malformed, Resources, Secrets};
pub use table::{Credentials, RoutingTable};

use reports::Reports;
use resolve::World;

/// What a set of resources means.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compilation {
    /// What is pushed to data planes; holds no secret.
    pub table: RoutingTable,
    /// What travels beside it.
    pub credentials: Credentials,
    /// One for each object, sorted by kind, namespace and name.
    pub reports: Vec<Report>,
}

/// What these resources mean. Total: every object gets a report, and a bad object costs only itself.
pub fn compile(resources: &Resources) -> Compilation {
    let world = World::of(resources);
    let mut reports = Reports::for_each(resources);
    let mut credentials = Credentials::default();
    let hosts = host::rows(&world, &mut reports, &mut credentials);
    let host_keys = host_key::rows(&world, &hosts, &mut reports, &mut credentials);
    let models = model::rows(&world, &hosts, &mut reports);
    let policies = policy::rows(&world, &models, &mut reports);
    let relay_keys = relay_key::rows(&world, &policies, &mut reports);
    let mut table = RoutingTable {
        settings: table::Settings { catalog_namespace: resources.catalog_namespace.clone() },
        hosts,
        models,
        host_keys,
        relay_keys,
        policies,
    };
    resources::add_malformed(resources, &mut table);
    reports.note_keys_of_hosts(&table);
    reports.note_unmatched_globs(&table);
    Compilation { table, credentials, reports: reports.finish() }
}
