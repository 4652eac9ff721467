//! What of a table the pods of one namespace may have beside them: the relay keys of that namespace that can be served
//! with nothing but what is the namespace's own, and what these need. A key is there with all that it may come to, or not
//! at all, so whoever holds this answers for a key as who holds the whole table does. Pure.

mod reach;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use self::reach::{Reach, View};
use crate::{Budget, Credentials, Limits, ObjectRef, Policy, ProviderLimits, RelayKey, RoutingTable, Row, Rows};

/// The table for pods of `namespace`, and the credentials beside it.
///
/// It holds the relay keys of the namespace of which nothing is counted across pods (no limit, budget or bound on requests
/// in flight, at the key, its policies, hosts and host keys), that look at no address of the caller, and that may draw no
/// credential but values of HostKeys of the namespace. With them are their policies, the models that they may name, granted
/// or not, since what is refused must be refused here too, the hosts of these, and the host keys that they draw. Where no key
/// can be served, nothing is there. Rows name no other namespace that they are open to; of a host that is closed to the
/// namespace there is little more than its shape, because requests may be pinned to it.
pub fn scoped(table: &RoutingTable, credentials: &Credentials, namespace: &str) -> (RoutingTable, Credentials) {
    let view = View::new(table, credentials, namespace);
    let mut reaches: BTreeMap<&[ObjectRef], Option<Reach<'_>>> = BTreeMap::new();
    let (mut relay_keys, mut policies) = (Rows::new(), BTreeSet::new());
    for (id, row) in of_namespace(&table.relay_keys, namespace) {
        let Some(key) = row.usable().filter(|key| is_for_anybody(key)) else { continue };
        let reach = reaches.entry(&key.policies).or_insert_with(|| Reach::of(&view, &key.policies));
        if reach.is_some() {
            relay_keys.insert(id.clone(), row.clone());
            policies.extend(&key.policies);
        }
    }
    let reaches: Vec<Reach<'_>> = reaches.into_values().flatten().collect();
    if relay_keys.is_empty() {
        let nothing = RoutingTable { settings: table.settings.clone(), ..RoutingTable::default() };
        return (nothing, Credentials::default());
    }
    let models = rows::models(&view, &reaches);
    let (host_keys, credentials) = rows::host_keys(&view, &reaches);
    let scoped = RoutingTable {
        settings: table.settings.clone(),
        hosts: rows::hosts(&view, &models),
        policies: rows::policies(&view, &policies, &models),
        models,
        host_keys,
        relay_keys,
    };
    (scoped, credentials)
}

/// Whether nothing of the key itself has to be counted across pods, and it does not look at the caller's address: that of a
/// caller beside it is always the same.
fn is_for_anybody(key: &RelayKey) -> bool {
    let RelayKey { limits, budget, allowed_cidrs, unusable, policies, .. } = key;
    let is_counted = is_limited(limits) || budget.is_some();
    !is_counted && allowed_cidrs.is_empty() && unusable.is_none() && !policies.is_empty()
}

/// Whether anything of a policy has to be counted across pods.
fn is_counted(policy: &Policy) -> bool {
    let budgets: &[Budget] = &policy.budgets;
    is_limited(&policy.limits) || !budgets.is_empty() || policy.per_model.iter().any(|own| is_limited(&own.limits))
}

fn is_limited(limits: &Limits) -> bool {
    let Limits { rpm, rpd, tpm, tpd, input_tpm, output_tpm, concurrency, burst_percent: _ } = limits;
    [rpm, rpd, tpm, tpd, input_tpm, output_tpm, concurrency].into_iter().any(Option::is_some)
}

fn is_bounded(limits: &ProviderLimits) -> bool {
    *limits != ProviderLimits::default()
}

/// The rows of one namespace.
fn of_namespace<'a, T>(rows: &'a Rows<T>, namespace: &'a str) -> impl Iterator<Item = (&'a ObjectRef, &'a Row<T>)> {
    let from = (Bound::Included(ObjectRef::new(namespace, "")), Bound::Unbounded);
    rows.range(from).take_while(move |(id, _)| id.namespace == namespace)
}
