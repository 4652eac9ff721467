//! What goes to which fleet: a DataPlane selects objects, and to its pods there are no others; and it settles how they run.

use std::{collections::BTreeMap, sync::Arc};

use compiler::{Compilation, Resources};
use crds::{DataPlane, DataPlaneSpec, FleetSelector};
use jiff::Timestamp;
use kube::ResourceExt;
use table::{Credentials, ObjectRef, PodSettings, RoutingTable};

use crate::published::Published;

/// A fleet, and what goes to it.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The object that describes it.
    pub data_plane: Arc<DataPlane>,
    /// What its pods route by.
    pub table: Arc<RoutingTable>,
    /// What travels beside it.
    pub credentials: Arc<Credentials>,
}

/// A table with its credentials.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) table: Arc<RoutingTable>,
    pub(crate) credentials: Arc<Credentials>,
}

impl Load {
    /// What is the same as before is the same value.
    pub(crate) fn new(
        table: RoutingTable,
        credentials: Credentials,
        before: Option<(&Arc<RoutingTable>, &Arc<Credentials>)>,
    ) -> Self {
        Self {
            table: same_or_new(table, before.map(|(table, _)| table)),
            credentials: same_or_new(credentials, before.map(|(_, credentials)| credentials)),
        }
    }
}

fn same_or_new<T: PartialEq>(now: T, before: Option<&Arc<T>>) -> Arc<T> {
    before.filter(|before| ***before == now).cloned().unwrap_or_else(|| Arc::new(now))
}

impl Published {
    /// The fleet to which pods of a service account belong; absent where no DataPlane takes them.
    ///
    /// That is the oldest that names the account, or else the oldest that names none at all.
    pub fn fleet_of(&self, namespace: &str, account: &str) -> Option<(&ObjectRef, &Fleet)> {
        let claim = |(id, fleet): &(&ObjectRef, &Fleet)| {
            let accounts = fleet.data_plane.spec.service_accounts.as_ref();
            accounts.map(|accounts| {
                let mut accounts = accounts.iter();
                accounts.any(|at| at.name == account && at.namespace.as_deref().unwrap_or(&id.namespace) == namespace)
            })
        };
        let oldest = |wanted: Option<bool>| {
            let claiming = self.fleets.iter().filter(|fleet| claim(fleet) == wanted);
            claiming.min_by_key(|(id, fleet)| (since(&fleet.data_plane), *id))
        };
        oldest(Some(true)).or_else(|| oldest(None))
    }
}

fn since(data_plane: &DataPlane) -> Option<Timestamp> {
    data_plane.creation_timestamp().map(|time| time.0)
}

/// What goes to each fleet: the whole where it selects nothing, and else what its selection means by itself; with its own
/// settings. What is the same as before is the same value.
pub(crate) fn compiled(
    resources: &Resources,
    data_planes: BTreeMap<ObjectRef, Arc<DataPlane>>,
    whole: &Load,
    before: Option<&BTreeMap<ObjectRef, Fleet>>,
) -> BTreeMap<ObjectRef, Fleet> {
    let fleet = |(id, data_plane): (ObjectRef, Arc<DataPlane>)| {
        let last = before.and_then(|before| before.get(&id));
        let pods = pod_settings(&data_plane.spec);
        let load = match &data_plane.spec.selector {
            None if pods.is_empty() => whole.clone(),
            None => {
                let mut table = (*whole.table).clone();
                table.settings.pods = pods;
                let table = same_or_new(table, last.map(|last| &last.table));
                Load { table, credentials: whole.credentials.clone() }
            }
            Some(selector) => {
                let Compilation { mut table, credentials, .. } = compiler::compile(&selected(resources, selector));
                table.settings.pods = pods;
                Load::new(table, credentials, last.map(|last| (&last.table, &last.credentials)))
            }
        };
        (id, Fleet { data_plane, table: load.table, credentials: load.credentials })
    };
    data_planes.into_iter().map(fleet).collect()
}

/// What a DataPlane settles for its pods. The API server lets no span of time through that cannot be read.
fn pod_settings(spec: &DataPlaneSpec) -> PodSettings {
    let span = |span: Option<&crds::Duration>| span.and_then(crds::Duration::to_std);
    let (drain, push, intake) = (spec.drain.as_ref(), spec.push.as_ref(), spec.intake.as_ref());
    PodSettings {
        drain_grace: span(drain.and_then(|drain| drain.grace.as_ref())),
        deregister_delay: span(drain.and_then(|drain| drain.deregister_delay.as_ref())),
        max_staleness: span(push.and_then(|push| push.max_staleness.as_ref())),
        body_limit: intake.and_then(|intake| intake.body_limit),
        body_read_timeout: span(intake.and_then(|intake| intake.body_read_timeout.as_ref())),
        max_in_flight: intake.and_then(|intake| intake.max_in_flight),
    }
}

/// Whether the same goes to the same fleets.
pub(crate) fn carry_the_same(one: &BTreeMap<ObjectRef, Fleet>, two: &BTreeMap<ObjectRef, Fleet>) -> bool {
    let is_same = |(one, two): (&Fleet, &Fleet)| {
        Arc::ptr_eq(&one.table, &two.table)
            && Arc::ptr_eq(&one.credentials, &two.credentials)
            && one.data_plane.spec == two.data_plane.spec
    };
    one.keys().eq(two.keys()) && one.values().zip(two.values()).all(is_same)
}

/// The objects that a selector takes. Secrets, ConfigMaps and namespaces stay: only what objects name of them is used.
fn selected(resources: &Resources, selector: &FleetSelector) -> Resources {
    fn within<T: ResourceExt>(objects: &mut BTreeMap<ObjectRef, Arc<T>>, selector: &FleetSelector) {
        objects.retain(|id, object| is_selected(selector, &id.namespace, object.labels()));
    }
    let mut all = resources.clone();
    within(&mut all.hosts, selector);
    within(&mut all.models, selector);
    within(&mut all.host_keys, selector);
    within(&mut all.relay_keys, selector);
    within(&mut all.policies, selector);
    // Labels of what cannot be read are not known.
    all.malformed.retain(|malformed| is_selected(selector, &malformed.id.namespace, &BTreeMap::new()));
    all
}

fn is_selected(selector: &FleetSelector, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let is_within = selector.namespaces.as_ref().is_none_or(|names| names.iter().any(|name| name == namespace));
    is_within && selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use compiler::Malformed;
    use crds::{Kind, Policy};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::source_vector::SourceVector;

    fn read<T: DeserializeOwned>(kind: &str, metadata: Value, spec: Value) -> T {
        let object = json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn policy(resources: &mut Resources, namespace: &str, name: &str, labels: Value) {
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        let policy: Policy = read("Policy", metadata, json!({"models": {"allow": ["*"]}, "hosts": {"allow": ["*"]}}));
        resources.policies.insert(ObjectRef::new(namespace, name), Arc::new(policy));
    }

    fn resources() -> Resources {
        let mut all = Resources::default();
        policy(&mut all, "a", "plain", json!({}));
        policy(&mut all, "a", "gold", json!({"tier": "gold"}));
        policy(&mut all, "b", "gold", json!({"tier": "gold"}));
        let id = ObjectRef::new("b", "broken");
        all.malformed.push(Malformed { kind: Kind::Policy, id, reason: "is wrong".to_owned() });
        all
    }

    fn fleets(all: &Resources, data_planes: &[(&str, Value)]) -> Published {
        let planes = data_planes.iter().enumerate().map(|(age, (name, spec))| {
            let since = format!("2026-01-{:02}T00:00:00Z", 28 - age);
            let metadata = json!({"name": name, "namespace": "relay", "creationTimestamp": since});
            (ObjectRef::new("relay", *name), Arc::new(read::<DataPlane>("DataPlane", metadata, spec.clone())))
        });
        let Compilation { table, credentials, reports } = compiler::compile(all);
        let whole = Load { table: Arc::new(table), credentials: Arc::new(credentials) };
        Published {
            revision: 1,
            fleets: compiled(all, planes.collect(), &whole, None),
            table: whole.table,
            credentials: whole.credentials,
            reports: Arc::new(reports),
            resources: Arc::new(all.clone()),
            source_vector: SourceVector::default(),
            urgent_revision: 0,
        }
    }

    fn policies(published: &Published, fleet: &str) -> Vec<String> {
        let table = &published.fleets[&ObjectRef::new("relay", fleet)].table;
        table.policies.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn two_fleets_with_different_selectors_get_different_tables() {
        let published = fleets(
            &resources(),
            &[
                ("all", json!({})),
                ("a", json!({"selector": {"namespaces": ["a"]}})),
                ("gold", json!({"selector": {"matchLabels": {"tier": "gold"}}})),
                ("both", json!({"selector": {"namespaces": ["b"], "matchLabels": {"tier": "gold"}}})),
                ("none", json!({"selector": {"namespaces": []}})),
            ],
        );
        assert!(Arc::ptr_eq(&published.fleets[&ObjectRef::new("relay", "all")].table, &published.table));
        assert_eq!(policies(&published, "all"), ["a/gold", "a/plain", "b/broken", "b/gold"]);
        assert_eq!(policies(&published, "a"), ["a/gold", "a/plain"]);
        assert_eq!(policies(&published, "gold"), ["a/gold", "b/gold"]);
        assert_eq!(policies(&published, "both"), ["b/gold"]);
        assert_eq!(policies(&published, "none"), [] as [&str; 0]);
    }

    #[test]
    fn settings_go_to_the_pods_of_their_fleet_alone() {
        let all = json!({
            "drain": {"grace": "1m30s", "deregisterDelay": "5s"},
            "push": {"maxStaleness": "24h"},
            "intake": {"bodyLimit": 4096, "bodyReadTimeout": "7s", "maxInFlight": 8},
        });
        let mut one = json!({"push": {"maxStaleness": "2m"}});
        one["selector"] = json!({"namespaces": ["a"]});
        let published = fleets(&resources(), &[("all", all), ("one", one), ("none", json!({"drain": {}}))]);
        let of = |name: &str| published.fleets[&ObjectRef::new("relay", name)].table.settings.pods;
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let expected = PodSettings {
            drain_grace: seconds(90),
            deregister_delay: seconds(5),
            max_staleness: seconds(24 * 3_600),
            body_limit: Some(4_096),
            body_read_timeout: seconds(7),
            max_in_flight: Some(8),
        };
        assert_eq!(of("all"), expected);
        assert_eq!(of("one"), PodSettings { max_staleness: seconds(120), ..PodSettings::default() });
        assert!(of("none").is_empty() && published.table.settings.pods.is_empty());
        assert_eq!(policies(&published, "all"), policies(&published, "none"));
        assert_eq!(policies(&published, "one"), ["a/gold", "a/plain"]);
        let of = |name: &str| &published.fleets[&ObjectRef::new("relay", name)];
        assert!(Arc::ptr_eq(&of("none").table, &published.table));
        assert!(Arc::ptr_eq(&of("all").credentials, &published.credentials));
    }

    #[test]
    fn settings_that_stay_the_same_make_no_new_table() {
        let all = resources();
        let first = fleets(&all, &[("edge", json!({"drain": {"grace": "10s"}}))]);
        let whole = Load { table: first.table.clone(), credentials: first.credentials.clone() };
        let planes = || first.fleets.iter().map(|(id, fleet)| (id.clone(), fleet.data_plane.clone())).collect();
        assert!(carry_the_same(&first.fleets, &compiled(&all, planes(), &whole, Some(&first.fleets))));
        let other = fleets(&all, &[("edge", json!({"drain": {"grace": "20s"}}))]);
        assert!(!carry_the_same(&first.fleets, &other.fleets));
        let digest = |published: &Published| published.fleets[&ObjectRef::new("relay", "edge")].table.digest();
        assert_ne!(digest(&first), digest(&other));
    }

    #[test]
    fn a_pod_belongs_to_the_oldest_fleet_that_names_its_account() {
        let named = |accounts: Value| json!({"serviceAccounts": accounts});
        let published = fleets(
            &resources(),
            &[
                ("younger", named(json!([{"name": "edge"}, {"name": "other", "namespace": "team"}]))),
                ("older", named(json!([{"name": "edge"}]))),
                ("rest", json!({})),
            ],
        );
        let of = |namespace, account| published.fleet_of(namespace, account).map(|(id, _)| id.name.as_str());
        assert_eq!(of("relay", "edge"), Some("older"));
        assert_eq!(of("team", "other"), Some("younger"));
        assert_eq!(of("relay", "other"), Some("rest"));
        let closed = fleets(&resources(), &[("older", named(json!([{"name": "edge"}])))]);
        assert!(closed.fleet_of("team", "edge").is_none(), "an account of another namespace is another account");
    }

    #[test]
    fn what_is_the_same_is_the_same_value() {
        let all = resources();
        let first = fleets(&all, &[("a", json!({"selector": {"namespaces": ["a"]}}))]);
        let whole = Load { table: first.table.clone(), credentials: first.credentials.clone() };
        let planes = || first.fleets.iter().map(|(id, fleet)| (id.clone(), fleet.data_plane.clone())).collect();
        let again = compiled(&all, planes(), &whole, Some(&first.fleets));
        assert!(carry_the_same(&first.fleets, &again));
        let mut more = all.clone();
        policy(&mut more, "a", "late", json!({}));
        assert!(!carry_the_same(&first.fleets, &compiled(&more, planes(), &whole, Some(&first.fleets))));
        assert!(!carry_the_same(&first.fleets, &BTreeMap::new()));
    }
}
