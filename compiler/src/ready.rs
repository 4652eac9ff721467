//! Whether an object that is right can also serve: the roll-up over what it depends on, as far as the table shows it.

use std::collections::{HashMap, HashSet};

use crds::Kind;
use foldhash::fast::RandomState;
use table::{Auth, Binding, Host, HostKey, Model, ObjectRef, RelayKey, Route, RoutingTable, Row, Target};

use crate::{
    findings::{Problem, Reports},
    reports::Reason,
    shared,
};

/// Says of every usable object that cannot serve why it cannot.
pub(crate) fn roll_up(table: &RoutingTable, reports: &mut Reports<'_>) {
    let hosts = Hosts::of(table);
    for id in table.hosts.keys() {
        if let Some((reason, message)) = hosts.obstacle(id) {
            reports.of(Kind::Host, id).unready(reason, message);
        }
    }
    for (id, key) in usable(&table.host_keys) {
        host_key(&hosts, id, key, reports);
    }
    for (id, obstacle) in models(table, &hosts) {
        if let Some((reason, message)) = obstacle {
            reports.of(Kind::Model, id).unready(reason, message);
        }
    }
    for (id, key) in usable(&table.relay_keys) {
        relay_key(id, key, reports);
    }
}

fn usable<T>(rows: &table::Rows<T>) -> impl Iterator<Item = (&ObjectRef, &T)> {
    rows.iter().filter_map(|(id, row)| Some((id, row.usable()?)))
}

/// Hosts, each with why it cannot serve.
struct Hosts<'a>(HashMap<&'a ObjectRef, Standing<'a>, RandomState>);

/// How a Host stands.
struct Standing<'a> {
    /// Absent: it cannot be used.
    host: Option<&'a Host>,
    /// Why it cannot serve though it is usable.
    obstacle: Option<Problem>,
}

impl<'a> Hosts<'a> {
    fn of(table: &'a RoutingTable) -> Self {
        let drawn = usable(&table.host_keys).filter(|(_, key)| !key.suspended);
        let with_keys: HashSet<&ObjectRef, RandomState> = drawn.map(|(_, key)| &key.host).collect();
        let standing = |(id, row): (&'a ObjectRef, &'a Row<Host>)| {
            let host = row.usable();
            let obstacle = host.and_then(|host| obstacle(id, host, with_keys.contains(id)));
            (id, Standing { host, obstacle })
        };
        Self(table.hosts.iter().map(standing).collect())
    }

    fn usable(&self, id: &ObjectRef) -> Option<&'a Host> {
        self.0.get(id)?.host
    }

    /// Why a usable Host cannot serve.
    fn obstacle(&self, id: &ObjectRef) -> Option<Problem> {
        self.0.get(id)?.obstacle.clone()
    }
}

fn obstacle(id: &ObjectRef, host: &Host, has_key: bool) -> Option<Problem> {
    if host.suspended {
        return Some((Reason::HostDisabled, format!("spec.suspend of Host `{id}` is true")));
    }
    if host.auth == Auth::None || has_key {
        return None;
    }
    let message = format!(
        "no usable HostKey refers to Host `{id}`: add one, or set `spec.auth.scheme: None` on a Host that takes none"
    );
    Some((Reason::NoHealthyKey, message))
}

fn host_key(hosts: &Hosts<'_>, id: &ObjectRef, key: &HostKey, reports: &mut Reports<'_>) {
    let host = hosts.usable(&key.host);
    if !key.suspended && host.is_some_and(|host| !host.suspended && host.auth != Auth::None) {
        return;
    }
    let found = reports.of(Kind::HostKey, id);
    if key.suspended {
        found.unready(Reason::Paused, "spec.suspend is true".to_owned());
    }
    match host {
        None => found.unready(Reason::Invalid, shared::broken(Kind::Host, "spec.hostRef", &key.host)),
        Some(host) if host.suspended => {
            found.unready(Reason::HostDisabled, format!("spec.suspend of Host `{}` is true", key.host));
        }
        Some(host) if host.auth == Auth::None => {
            found.note(format!("Host `{}` has `spec.auth.scheme: None`: this credential is never sent", key.host));
        }
        Some(_) => {}
    }
}

fn relay_key(id: &ObjectRef, key: &RelayKey, reports: &mut Reports<'_>) {
    if !key.revoked && !key.suspended && key.unusable.is_none() {
        return;
    }
    let found = reports.of(Kind::RelayKey, id);
    if key.revoked {
        found.revoke();
    }
    if key.suspended {
        found.unready(Reason::Paused, "spec.suspend is true".to_owned());
    }
    if let Some(why) = &key.unusable {
        found.unready(Reason::Invalid, why.clone());
    }
}

/// Why each usable Model cannot serve; absent: it can. Targets come before what names them, with a stack of our own,
/// because virtual Models may be nested deeper than a thread's stack is.
fn models<'a>(table: &'a RoutingTable, hosts: &Hosts<'_>) -> Obstacles<'a> {
    let mut known = Obstacles::default();
    for (id, _) in usable(&table.models) {
        let mut open = vec![id];
        while let Some(at) = open.last().copied() {
            let Some(model) = table.models.get(at).and_then(Row::usable).filter(|_| !known.contains_key(at)) else {
                open.pop();
                continue;
            };
            let named = targets(model).filter(|target| target.unusable.is_none()).map(|target| &target.model);
            let is_usable = |id: &&ObjectRef| table.models.get(*id).is_some_and(|row| row.usable().is_some());
            let before = open.len();
            open.extend(named.filter(is_usable).filter(|id| !known.contains_key(*id)));
            if open.len() == before {
                known.insert(at, model_obstacle(model, hosts, &known));
            }
        }
    }
    known
}

/// Why Models cannot serve; absent: they can.
type Obstacles<'a> = HashMap<&'a ObjectRef, Option<Problem>, RandomState>;

fn targets(model: &Model) -> impl Iterator<Item = &Target> {
    match &model.route {
        Route::Virtual { targets, .. } => targets.iter(),
        Route::Bindings(_) => [].iter(),
    }
}

fn model_obstacle(model: &Model, hosts: &Hosts<'_>, known: &Obstacles<'_>) -> Option<Problem> {
    if model.suspended {
        return Some((Reason::Paused, "spec.suspend is true".to_owned()));
    }
    match &model.route {
        Route::Bindings(bindings) => all_of(bindings.iter().map(|own| (own.name.as_str(), binding(hosts, own)))),
        Route::Virtual { targets, .. } => {
            let obstacle = |target: &Target| match &target.unusable {
                Some(why) => Some((Reason::Invalid, why.clone())),
                None => known.get(&target.model)?.as_ref().map(|(reason, _)| {
                    (*reason, format!("Model `{}` cannot serve, its own conditions say why", target.model))
                }),
            };
            all_of(targets.iter().map(|target| (target.model.name.as_str(), obstacle(target))))
        }
    }
}

fn binding(hosts: &Hosts<'_>, binding: &Binding) -> Option<Problem> {
    match &binding.unusable {
        Some(why) => Some((Reason::Invalid, why.clone())),
        None if binding.suspended => Some((Reason::Paused, "the binding is suspended".to_owned())),
        None => hosts.obstacle(&binding.host),
    }
}

/// A Model serves if one of its ways does. If none does, the reason is that of the first.
fn all_of<'a>(ways: impl Iterator<Item = (&'a str, Option<Problem>)>) -> Option<Problem> {
    let mut first = None;
    let mut words = Vec::new();
    for (name, obstacle) in ways {
        let (reason, message) = obstacle?;
        first.get_or_insert(reason);
        words.push(format!("`{name}`: {message}"));
    }
    let words = words.join("; ");
    Some((first.unwrap_or(Reason::Invalid), format!("nothing can serve it: {words}")))
}
