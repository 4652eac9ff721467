//! One object: its conditions, what else its status says, and what happened to it.

use crds::Kind;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, api::ListParams, core::DynamicObject};
use serde_json::{Value, json};
use table::ObjectRef;

use super::kinds::Wanted;
use crate::{
    cluster::{Cluster, Doing, Fault, Said, Standing, Trouble},
    outcome::Outcome,
    view::{View, table, yaml},
};

/// What there is to say of one object.
pub(super) struct Details {
    kind: Kind,
    id: ObjectRef,
    said: Said,
    /// Its status without conditions.
    more: Value,
    /// The newest last; none where they may not be seen.
    events: Vec<Happened>,
}

/// One Event.
struct Happened {
    at: Option<Timestamp>,
    reason: String,
    note: String,
}

impl Details {
    pub(super) async fn read(cluster: &Cluster, wanted: &Wanted) -> anyhow::Result<Self> {
        let Wanted { kind, name } = wanted;
        let id = ObjectRef::new(&cluster.namespace, name);
        let object = cluster.get(*kind, &id).await?;
        let events = events(cluster, *kind, &id).await?;
        Ok(Self { kind: *kind, id, said: Said::of(&object), more: more(&object), events })
    }

    pub(super) fn outcome(self, view: View) -> anyhow::Result<Outcome> {
        let code = u8::from(matches!(self.said.standing(), Standing::NotReady(_)));
        let out = match view.document(&self.json())? {
            Some(document) => document,
            None => self.text(),
        };
        Ok(Outcome { out, code, ..Outcome::default() })
    }

    fn text(&self) -> String {
        let Self { kind, id, said, .. } = self;
        let seen =
            said.observed.map_or_else(|| "no operator has looked at it".to_owned(), |seen| format!("seen {seen}"));
        let is = match said.standing() {
            Standing::Ready => "in effect",
            Standing::Off(_) => "out of service",
            Standing::NotReady(_) => "not in effect",
        };
        let mut text = format!("{kind} {id} is {is} (generation {}, {seen})\n", said.generation);
        if !said.conditions.is_empty() {
            let rows = said.conditions.iter().map(|condition| {
                let fields = [&condition.type_, &condition.status, &condition.reason];
                let time = condition.last_transition_time.0.to_string();
                [fields.map(Clone::clone).to_vec(), vec![time, condition.message.clone()]].concat()
            });
            text += "\n";
            text += &table(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"], &rows.collect::<Vec<_>>());
        }
        if self.more.as_object().is_some_and(|more| !more.is_empty()) {
            text += "\n";
            text += &yaml(&self.more);
        }
        if !self.events.is_empty() {
            let rows = self.events.iter().map(|event| {
                let at = event.at.map_or_else(String::new, |at| at.to_string());
                vec![at, event.reason.clone(), event.note.clone()]
            });
            text += "\n";
            text += &table(&["EVENT", "REASON", "NOTE"], &rows.collect::<Vec<_>>());
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "kind": self.kind.as_str(),
            "id": self.id,
            "ready": self.said.standing() == Standing::Ready,
            "generation": self.said.generation,
            "observedGeneration": self.said.observed,
            "conditions": self.said.conditions,
            "status": self.more,
            "events": self.events.iter().map(|event| json!({
                "at": event.at.map(|at| at.to_string()), "reason": event.reason, "note": event.note,
            })).collect::<Vec<_>>(),
        })
    }
}

fn more(object: &DynamicObject) -> Value {
    let mut status = object.data["status"].clone();
    if let Some(status) = status.as_object_mut() {
        status.shift_remove("conditions");
        status.shift_remove("observedGeneration");
    }
    status
}

async fn events(cluster: &Cluster, kind: Kind, id: &ObjectRef) -> Result<Vec<Happened>, Fault> {
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &id.namespace);
    let fields = format!("regarding.kind={kind},regarding.name={}", id.name);
    let doing =
        Doing { verb: "list", group: "events.k8s.io", plural: "events", namespace: Some(&id.namespace), name: None };
    let found = match cluster.list_of(doing, &api, ListParams::default().fields(&fields)).await {
        Ok(found) => found,
        // Who may not see Events still sees the rest.
        Err(fault) if fault.trouble == Trouble::Forbidden => return Ok(Vec::new()),
        Err(fault) => return Err(fault),
    };
    let mut events: Vec<Happened> = found.into_iter().map(Happened::of).collect();
    events.sort_by_key(|event| event.at);
    Ok(events)
}

impl Happened {
    fn of(event: Event) -> Self {
        let at = event.series.as_ref().map(|series| series.last_observed_time.0).or(event.event_time.map(|at| at.0));
        Self { at, reason: event.reason.unwrap_or_default(), note: event.note.unwrap_or_default() }
    }
}
