//! Objects that are not in effect, and Secrets that they miss, as the operator says in their status.

use std::collections::{BTreeMap, BTreeSet};

use crds::Kind;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, core::DynamicObject};
use serde_json::Value;
use table::ObjectRef;

use super::{
    finding::Finding,
    site::{self, Site},
};
use crate::{
    cluster::{Cluster, Doing, Fault, Said, Standing, Within, id},
    outcome::count,
};

/// The kinds that are in effect or not.
const KINDS: [Kind; 5] = [Kind::Host, Kind::Model, Kind::HostKey, Kind::RelayKey, Kind::Policy];

/// What the operator says where something is wrong with a Secret.
const OF_SECRETS: [&str; 3] = ["SecretNotFound", "SecretKeyMissing", "SecretEmpty"];

/// So many objects of a kind are told of one by one.
const TOLD: usize = 5;

const SECRETS: &str = "secrets";
const READY: &str = "objects-ready";
const PAGE: &str = "docs/kubectl.md#status";
const SECRETS_PAGE: &str = "docs/resources.md";

/// All objects, with what is said of each.
pub(super) struct Objects {
    all: Vec<Object>,
    /// What could not be read.
    unseen: Vec<Finding>,
    watched: BTreeSet<String>,
}

struct Object {
    kind: Kind,
    id: ObjectRef,
    standing: Standing,
    /// Whether any operator has said anything of it.
    is_known: bool,
    spec: Value,
}

impl Objects {
    pub(super) async fn read(cluster: &Cluster, site: &Site) -> Self {
        let watched = if site.operator().is_some() { site.watched() } else { BTreeSet::new() };
        let mut objects = Self { all: Vec::new(), unseen: Vec::new(), watched };
        for kind in KINDS {
            match objects.list(cluster, kind).await {
                Ok(found) => objects.all.extend(found.iter().map(|object| Object::of(kind, object))),
                Err(fault) if site::is_forbidden(&fault) => {
                    objects.unseen.push(Finding::unseen(READY, fault.to_string()));
                }
                Err(fault) => objects.unseen.push(Finding::failed(READY, fault.to_string())),
            }
        }
        objects
    }

    /// Everywhere, or where it may be read of what the operator watches.
    async fn list(&self, cluster: &Cluster, kind: Kind) -> Result<Vec<DynamicObject>, Fault> {
        let refused = match cluster.list(kind, Within::All).await {
            Ok(found) => return Ok(found),
            Err(fault) if site::is_forbidden(&fault) && !self.watched.is_empty() => fault,
            Err(fault) => return Err(fault),
        };
        let mut found = Vec::new();
        let mut is_any_open = false;
        for namespace in &self.watched {
            if let Ok(more) = cluster.list(kind, Within::Namespace(namespace)).await {
                is_any_open = true;
                found.extend(more);
            }
        }
        if is_any_open { Ok(found) } else { Err(refused) }
    }

    /// Secrets that objects name and that do not hold what they should: as the operator says, or as they are.
    pub(super) async fn secrets(&self, cluster: &Cluster, read: bool) -> Vec<Finding> {
        let named: Vec<(&Object, String, String)> = self.watched().filter_map(Object::secret).collect();
        let mut findings = Vec::new();
        for object in self.watched() {
            if let Some(message) = object.fault_of_secret().filter(|_| !read || object.secret().is_none()) {
                findings.push(object.failed_secret(&message));
            }
        }
        if read {
            for (object, secret, key) in &named {
                findings.extend(read_one(cluster, object, secret, key).await);
            }
        }
        if findings.is_empty() && !named.is_empty() {
            let by = if read { "each was read" } else { "as the operator says" };
            let said = format!("all {} that name a Secret find their key in it ({by})", count(named.len(), "object"));
            findings.push(Finding::fine(SECRETS, said));
        }
        findings
    }

    /// Objects that should be in effect and are not, kind by kind.
    pub(super) fn ready(mut self) -> Vec<Finding> {
        let mut findings = std::mem::take(&mut self.unseen);
        for kind in KINDS {
            findings.extend(self.of_kind(kind));
        }
        findings.extend(self.unwatched());
        findings
    }

    fn of_kind(&self, kind: Kind) -> Vec<Finding> {
        let all: Vec<&Object> = self.watched().filter(|object| object.kind == kind).collect();
        let off = all.iter().filter(|object| matches!(object.standing, Standing::Off(_))).count();
        let wrong: Vec<&Object> =
            all.iter().copied().filter(|object| matches!(object.standing, Standing::NotReady(_))).collect();
        if all.is_empty() {
            return Vec::new();
        }
        if wrong.is_empty() {
            let more = if off == 0 { String::new() } else { format!(", {off} taken out of service") };
            return vec![Finding::fine(READY, format!("{} in effect{more}", count(all.len() - off, kind.as_str())))];
        }
        let told = wrong.iter().filter(|object| object.fault_of_secret().is_none()).take(TOLD);
        let mut findings: Vec<Finding> = told.map(|object| object.failed()).collect();
        let said = format!("{} of {} not in effect", wrong.len(), count(all.len(), kind.as_str()));
        findings.push(Finding::failed(READY, said).remedy("relay status -A").see(PAGE));
        findings
    }

    fn watched(&self) -> impl Iterator<Item = &Object> {
        self.all.iter().filter(|object| self.watched.is_empty() || self.watched.contains(&object.id.namespace))
    }

    /// Objects where no operator looks: nothing becomes of them. Those of other installations have a status.
    fn unwatched(&self) -> Option<Finding> {
        let mut elsewhere: BTreeMap<&str, usize> = BTreeMap::new();
        let is_elsewhere = |id: &ObjectRef| !self.watched.is_empty() && !self.watched.contains(&id.namespace);
        for object in self.all.iter().filter(|object| is_elsewhere(&object.id) && !object.is_known) {
            *elsewhere.entry(&object.id.namespace).or_default() += 1;
        }
        let number: usize = elsewhere.values().sum();
        if number == 0 {
            return None;
        }
        let names: Vec<&str> = elsewhere.keys().copied().take(TOLD).collect();
        let said = format!(
            "no operator has looked at {}, and this one does not watch the namespaces ({})",
            count(number, "object"),
            names.join(", ")
        );
        let remedy = "if it should: `helm upgrade` with the namespace in `watchNamespaces`";
        Some(Finding::warning("objects-watched", said).hint(remedy).see("docs/operator.md#settings"))
    }
}

impl Object {
    fn of(kind: Kind, object: &DynamicObject) -> Self {
        let said = Said::of(object);
        let (standing, is_known) = (said.standing(), said.observed.is_some());
        Self { kind, id: id(object), standing, is_known, spec: object.data["spec"].clone() }
    }

    /// The Secret that it names, and the key in it.
    fn secret(&self) -> Option<(&Self, String, String)> {
        let named = match self.kind {
            Kind::HostKey => &self.spec["source"]["secretKeyRef"],
            Kind::RelayKey => &self.spec["tokenSecretRef"],
            Kind::Host | Kind::Model | Kind::Policy | Kind::DataPlane => return None,
        };
        Some((self, named["name"].as_str()?.to_owned(), named["key"].as_str()?.to_owned()))
    }

    /// What the operator says is wrong with a Secret that it names.
    fn fault_of_secret(&self) -> Option<String> {
        match &self.standing {
            Standing::NotReady(why) if OF_SECRETS.contains(&why.reason.as_str()) => {
                Some(format!("{} {}", why.reason, why.message))
            }
            _ => None,
        }
    }

    fn failed_secret(&self, message: &str) -> Finding {
        let said = format!("{} {}: {message}", self.kind, self.id);
        let finding = Finding::failed(SECRETS, said);
        let finding = match self.secret() {
            Some((_, secret, key)) => finding.remedy(format!(
                "kubectl -n {} create secret generic {secret} --from-file={key}=FILE --dry-run=client -o yaml | kubectl apply \
                 --server-side -f -",
                self.id.namespace
            )),
            None => finding.remedy(self.status()),
        };
        finding.see(SECRETS_PAGE)
    }

    fn failed(&self) -> Finding {
        let Standing::NotReady(why) = &self.standing else {
            return Finding::fine(READY, format!("{} {}", self.kind, self.id));
        };
        let message = if why.message.is_empty() { String::new() } else { format!(": {}", why.message) };
        let said = format!("{} {}: {} {}{message}", self.kind, self.id, why.condition, why.reason);
        Finding::failed(READY, said).remedy(self.status()).see(PAGE)
    }

    fn status(&self) -> String {
        format!("relay status {}/{} -n {}", self.kind.as_str().to_lowercase(), self.id.name, self.id.namespace)
    }
}

/// Looks into a Secret; what it holds goes no further.
async fn read_one(cluster: &Cluster, object: &Object, secret: &str, key: &str) -> Option<Finding> {
    let namespace = &object.id.namespace;
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "get", group: "", plural: "secrets", namespace: Some(namespace), name: Some(secret) };
    let said = match cluster.ask(doing, api.get_opt(secret)).await {
        Ok(None) => format!("SecretNotFound `{secret}` is no Secret in namespace `{namespace}`"),
        Ok(Some(found)) => {
            let data = found.data.unwrap_or_default();
            match data.get(key).map(|value| value.0.trim_ascii().is_empty()) {
                Some(false) => return None,
                Some(true) => format!("SecretEmpty `{key}` of Secret `{secret}` is empty"),
                None => {
                    let there: Vec<&str> = data.keys().map(String::as_str).collect();
                    format!("SecretKeyMissing Secret `{secret}` has no key `{key}`, only {}", there.join(", "))
                }
            }
        }
        Err(fault) if site::is_forbidden(&fault) => return Some(Finding::unseen(SECRETS, fault.to_string())),
        Err(fault) => return Some(Finding::failed(SECRETS, fault.to_string())),
    };
    Some(object.failed_secret(&said))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::finding::Mark, *};

    fn object(kind: Kind, namespace: &str, status: &str, reason: &str) -> Object {
        let condition = json!({"type": "ResolvedRefs", "status": status, "reason": reason, "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let ready = json!({"type": "Ready", "status": status, "reason": reason, "message": "no", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let spec = json!({"source": {"secretKeyRef": {"name": "provider", "key": "token"}}});
        let value = json!({
            "metadata": {"name": "main", "namespace": namespace, "generation": 1}, "spec": spec,
            "status": {"observedGeneration": 1, "conditions": [condition, ready]},
        });
        Object::of(kind, &serde_json::from_value(value).unwrap())
    }

    fn objects(all: Vec<Object>) -> Objects {
        Objects { all, unseen: Vec::new(), watched: ["own".to_owned()].into() }
    }

    #[test]
    fn what_should_be_in_effect_and_is_not_is_told_by_kind() {
        let all = vec![
            object(Kind::Model, "own", "False", "RefNotFound"),
            object(Kind::Policy, "own", "True", "Ready"),
            object(Kind::RelayKey, "own", "False", "Revoked"),
        ];
        let told = objects(all).ready();
        let told: Vec<(Mark, &str)> = told.iter().map(|finding| (finding.mark, finding.text())).collect();
        assert_eq!(
            told,
            [
                (Mark::Failed, "Model own/main: ResolvedRefs=False RefNotFound: no"),
                (Mark::Failed, "1 of 1 Model not in effect"),
                (Mark::Fine, "0 RelayKeys in effect, 1 taken out of service"),
                (Mark::Fine, "1 Policy in effect"),
            ]
        );
    }

    #[test]
    fn objects_that_nobody_watches_are_a_warning_and_judged_no_further() {
        let of_another = object(Kind::Model, "another", "False", "RefNotFound");
        let of_nobody = Object { is_known: false, ..object(Kind::Model, "other", "False", "RefNotFound") };
        let told = objects(vec![of_another, of_nobody]).ready();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].mark, Mark::Warning);
        assert!(told[0].text().starts_with("no operator has looked at 1 object, and this one does not watch"));
    }

    #[test]
    fn a_fault_of_a_secret_names_what_would_make_it() {
        let key = object(Kind::HostKey, "own", "False", "SecretNotFound");
        let finding = key.failed_secret(&key.fault_of_secret().unwrap());
        assert_eq!(finding.text(), "HostKey own/main: SecretNotFound no");
        let remedy = "kubectl -n own create secret generic provider --from-file=token=FILE";
        assert!(finding.remedies()[0].starts_with(remedy), "{finding:?}");
    }
}
