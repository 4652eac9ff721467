//! The overview: operator, fleets, objects by kind, and each that is not in effect.

use crds::Kind;
use futures::future::try_join_all;
use kube::core::DynamicObject;
use serde_json::{Value, json};
use table::ObjectRef;

use super::operator::Operator;
use crate::{
    cluster::{Cluster, Fault, Home, Said, Standing, Trouble, Why, Within, id},
    outcome::Outcome,
    view::{View, table},
};

/// What there is to say of a cluster.
pub(super) struct Overview {
    /// Where objects were looked for; absent: everywhere.
    namespace: Option<String>,
    operator: Operator,
    fleets: Vec<Fleet>,
    kinds: Vec<Count>,
    not_ready: Vec<Told>,
    off: Vec<Told>,
    /// What could not be seen.
    notes: Vec<String>,
}

/// One fleet.
struct Fleet {
    id: ObjectRef,
    /// Absent: the operator has not said it yet.
    pods: Option<Pods>,
    table: Option<String>,
    standing: Standing,
}

/// The pods of a fleet.
struct Pods {
    connected: u64,
    current: u64,
    lagging: u64,
    nacked: u64,
    /// Of those that lag, those that serve by a copy of an earlier run.
    stale: u64,
}

/// How many objects there are of a kind.
struct Count {
    kind: Kind,
    all: usize,
    ready: usize,
    off: usize,
}

/// Why an object is not in effect.
struct Told {
    kind: Kind,
    id: ObjectRef,
    why: Why,
}

impl Overview {
    pub(super) async fn read(cluster: &Cluster, home: &Home, everywhere: bool) -> anyhow::Result<Self> {
        let operator = Operator::read(cluster, home).await?;
        let within = if everywhere { Within::All } else { Within::Namespace(&cluster.namespace) };
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::DataPlane);
        let lists = kinds.map(|kind| async move { Ok::<_, Fault>((kind, cluster.list(kind, within).await?)) });
        let lists = try_join_all(lists).await?;
        let mut overview = Self {
            namespace: within.namespace().map(str::to_owned),
            operator,
            fleets: Vec::new(),
            kinds: Vec::new(),
            not_ready: Vec::new(),
            off: Vec::new(),
            notes: Vec::new(),
        };
        overview.read_fleets(cluster, within).await?;
        lists.iter().for_each(|(kind, objects)| overview.add(*kind, objects));
        Ok(overview)
    }

    /// Fleets that count are in the namespace of the operator.
    async fn read_fleets(&mut self, cluster: &Cluster, within: Within<'_>) -> Result<(), Fault> {
        let home = self.operator.leader.as_ref().map(|leader| leader.namespace.clone());
        let within = home.as_deref().map_or(within, Within::Namespace);
        match cluster.list(Kind::DataPlane, within).await {
            Ok(objects) => {
                self.fleets = objects.iter().map(Fleet::of).collect();
                self.add(Kind::DataPlane, &objects);
            }
            Err(fault) if fault.trouble == Trouble::Forbidden => {
                self.notes.push(format!("fleets are not shown: {fault}"));
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, objects: &[DynamicObject]) {
        let mut count = Count { kind, all: objects.len(), ready: 0, off: 0 };
        for object in objects {
            match Said::of(object).standing() {
                Standing::Ready => count.ready += 1,
                Standing::Off(why) => {
                    count.off += 1;
                    self.off.push(Told { kind, id: id(object), why });
                }
                Standing::NotReady(why) => self.not_ready.push(Told { kind, id: id(object), why }),
            }
        }
        self.kinds.push(count);
    }

    pub(super) fn outcome(self, view: View) -> anyhow::Result<Outcome> {
        let is_fine = self.not_ready.is_empty() && self.operator.is_led();
        let out = match view.document(&self.json())? {
            Some(document) => document,
            None => self.text(view),
        };
        let aside = self.notes.iter().map(|note| format!("note: {note}\n")).collect();
        Ok(Outcome { out, aside, code: u8::from(!is_fine) })
    }

    fn text(&self, view: View) -> String {
        let mut parts = vec![self.operator.lines().join("\n") + "\n", self.fleets(view), self.kinds()];
        if self.kinds.iter().all(|count| count.all == 0) {
            let place = self.namespace.as_ref().map(|name| format!(" in namespace `{name}` (-A looks in all)"));
            parts.push(format!("There is no Relay object{}.\n", place.unwrap_or_default()));
        } else if self.not_ready.is_empty() {
            parts.push("Everything that should be in effect is.\n".to_owned());
        } else {
            let lines: String = self.not_ready.iter().map(Told::line).collect();
            parts.push(format!("Not ready:\n{lines}"));
        }
        if view.is_wide() && !self.off.is_empty() {
            let lines: String = self.off.iter().map(Told::line).collect();
            parts.push(format!("Off:\n{lines}"));
        }
        parts.join("\n")
    }

    fn fleets(&self, view: View) -> String {
        if self.fleets.is_empty() {
            return "No DataPlane: data planes that an operator serves without one are not counted.\n".to_owned();
        }
        let mut head = vec!["FLEET", "CONNECTED", "CURRENT", "LAGGING", "NACKED", "READY"];
        if view.is_wide() {
            head.extend(["STALE", "TABLE"]);
        }
        let rows = self.fleets.iter().map(|fleet| {
            let pods =
                |of: fn(&Pods) -> u64| fleet.pods.as_ref().map_or_else(|| "-".to_owned(), |pods| of(pods).to_string());
            let is_ready = (fleet.standing == Standing::Ready).to_string();
            let mut row = vec![
                fleet.id.to_string(),
                pods(|pods| pods.connected),
                pods(|pods| pods.current),
                pods(|pods| pods.lagging),
                pods(|pods| pods.nacked),
                is_ready,
            ];
            if view.is_wide() {
                row.extend([pods(|pods| pods.stale), fleet.table.clone().unwrap_or_else(|| "-".to_owned())]);
            }
            row
        });
        table(&head, &rows.collect::<Vec<_>>())
    }

    fn kinds(&self) -> String {
        let rows = self.kinds.iter().filter(|count| count.kind != Kind::DataPlane).map(|count| {
            let Count { kind, all, ready, off } = count;
            let numbers = [*all, *ready, all - ready - off, *off].map(|number| number.to_string());
            [vec![kind.to_string()], numbers.to_vec()].concat()
        });
        table(&["KIND", "OBJECTS", "READY", "NOT-READY", "OFF"], &rows.collect::<Vec<_>>())
    }

    fn json(&self) -> Value {
        let told = |all: &[Told]| all.iter().map(Told::json).collect::<Vec<_>>();
        json!({
            "operator": self.operator.json(),
            "fleets": self.fleets.iter().map(Fleet::json).collect::<Vec<_>>(),
            "kinds": self.kinds.iter().map(|count| json!({
                "kind": count.kind.as_str(), "objects": count.all, "ready": count.ready, "off": count.off,
            })).collect::<Vec<_>>(),
            "notReady": told(&self.not_ready),
            "off": told(&self.off),
            "notes": self.notes,
        })
    }
}

impl Fleet {
    fn of(object: &DynamicObject) -> Self {
        let status = &object.data["status"];
        let number = |name: &str| status["pods"][name].as_u64().unwrap_or_default();
        let pods = status["pods"].is_object().then(|| Pods {
            connected: number("connected"),
            current: number("current"),
            lagging: number("lagging"),
            nacked: number("nacked"),
            stale: number("stale"),
        });
        let table = status["table"].as_str().map(str::to_owned);
        Self { id: id(object), pods, table, standing: Said::of(object).standing() }
    }

    fn json(&self) -> Value {
        let pods = self.pods.as_ref().map(|pods| {
            let Pods { connected, current, lagging, nacked, stale } = pods;
            json!({"connected": connected, "current": current, "lagging": lagging, "nacked": nacked, "stale": stale})
        });
        json!({"id": self.id, "pods": pods, "table": self.table, "ready": self.standing == Standing::Ready})
    }
}

impl Told {
    fn line(&self) -> String {
        let Self { kind, id, why } = self;
        let message = if why.message.is_empty() { String::new() } else { format!(": {}", why.message) };
        format!("  {kind} {id}: {} {}{message}\n", why.condition, why.reason)
    }

    fn json(&self) -> Value {
        let mut value = self.why.json();
        value["kind"] = self.kind.as_str().into();
        value["id"] = json!(self.id);
        value
    }
}
