//! What Relay resources mean: a pure function from resources to the routing table.
//!
//! No clock, no memory, no I/O and no failure: every object gets a report, and a bad object costs only itself. It stays
//! in the table as an invalid row, so that a request which meets it gets an explained error.

mod address;
mod cycles;
mod dialect;
mod duration;
mod findings;
mod grants;
mod host;
mod host_key;
mod host_tuning;
mod model;
mod policy;
mod precedence;
mod pricing;
mod ready;
mod relay_key;
mod reports;
mod resolve;
mod resources;
mod secrets;
mod shared;
mod tls;
mod traits;
mod unmatched;

pub use reports::{Condition, ConditionType, Reason, Report};
pub use resources::{Malformed, Resources, Secrets};
pub use table::{Credentials, RoutingTable};

use findings::Reports;
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
    let host_keys = host_key::rows(&world, &mut reports, &mut credentials);
    let mut models = model::rows(&world, &hosts, &mut reports);
    cycles::refuse(&world, &mut models, &mut reports);
    precedence::settle_models(&world, &mut models, &mut reports);
    model::mark_dead_targets(&mut models);
    let policies = policy::rows(&world, &models, &mut reports);
    let mut relay_keys = relay_key::rows(&world, &policies, &mut reports);
    precedence::settle_relay_keys(&world, &mut relay_keys, &mut reports);

    let settings =
        table::Settings { catalog_namespace: resources.catalog_namespace.clone(), ..table::Settings::default() };
    let table = RoutingTable { settings, hosts, models, host_keys, relay_keys, policies };
    ready::roll_up(&table, &mut reports);
    unmatched::note(&world, &table, &mut reports);
    Compilation { table, credentials, reports: reports.finish() }
}
