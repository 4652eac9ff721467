//! The objects of a cluster as the compiler takes them, read by what the user may read. Secrets are read only when that is
//! asked for; else each that an object names is taken to hold something, unless the operator says otherwise.

mod made_for;
mod names;
mod overlay;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use compiler::{Compilation, Malformed, Resources};
use crds::{Host, HostKey, Kind, Model, Policy, RelayKey};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret as SecretObject};
use kube::{
    Api,
    api::ListParams,
    core::{DynamicObject, PartialObjectMeta},
};
use serde::de::DeserializeOwned;
use table::{Credential, ObjectRef, Row, Rows, Secret};

use super::{Cluster, Doing, Fault, Home, Said, Trouble, Within, id};
use names::Named;

/// The label that an API server puts on every namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// The kinds that are compiled.
const COMPILED: [Kind; 5] = [Kind::Host, Kind::Model, Kind::HostKey, Kind::RelayKey, Kind::Policy];

/// What is read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) width: Width,
    /// The namespace whose Models all see; absent: the operator's.
    pub(crate) catalog: Option<String>,
    pub(crate) home: Home,
    /// Whether Secrets that objects name are read.
    pub(crate) secrets: bool,
}

/// Which namespaces are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// All, or else nothing.
    All,
    /// All that may be read.
    Readable,
    /// The one that is meant, and the catalog's.
    One,
}

/// What a cluster holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) resources: Resources,
    /// What the operator said of each object.
    said: BTreeMap<(Kind, ObjectRef), Said>,
    /// Secrets that were asked for and are not there.
    missing: BTreeSet<ObjectRef>,
    /// What was left out, or taken to be so, in sentences.
    pub(crate) notes: Vec<String>,
}

/// What the objects of a cluster mean, and what of it is not known for certain.
#[derive(Clone, Debug)]
pub(crate) struct Meaning {
    pub(crate) compilation: Compilation,
    /// Objects whose Secrets were not read.
    pub(crate) assumed: BTreeSet<(Kind, ObjectRef)>,
}

impl Live {
    /// Reads a cluster. Errs where what must be read may not be.
    pub(crate) async fn read(cluster: &Cluster, reading: &Reading) -> anyhow::Result<Self> {
        let mut live = Self::default();
        let catalog = match &reading.catalog {
            Some(name) => name.clone(),
            None => live.catalog(cluster, &reading.home).await?,
        };
        live.objects(cluster, reading.width, &catalog).await?;
        live.resources.catalog_namespace = catalog;
        live.namespaces(cluster).await?;
        live.config_maps(cluster).await?;
        if reading.secrets {
            live.secrets(cluster).await?;
        }
        Ok(live)
    }

    async fn catalog(&mut self, cluster: &Cluster, home: &Home) -> Result<String, Fault> {
        Ok(home.leader(cluster).await?.map(|leader| leader.namespace).unwrap_or_else(|reason| {
            self.notes.push(format!(
                "namespace `{}` is taken to be the one whose Models all see (--catalog-namespace): {reason}",
                cluster.namespace
            ));
            cluster.namespace.clone()
        }))
    }

    async fn objects(&mut self, cluster: &Cluster, width: Width, catalog: &str) -> Result<(), Fault> {
        if width != Width::One {
            match lists(cluster, Within::All).await {
                Ok(objects) => {
                    self.add_all(objects);
                    return Ok(());
                }
                Err(fault) if fault.trouble == Trouble::Forbidden && width == Width::Readable => {
                    let names: BTreeSet<&str> = [cluster.namespace.as_str(), catalog].into();
                    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
                    self.notes.push(format!("nothing is read outside of {}: {fault}", names.join(" and ")));
                }
                Err(fault) => return Err(fault),
            }
        }
        self.add_all(lists(cluster, Within::Namespace(&cluster.namespace)).await?);
        if catalog != cluster.namespace {
            match lists(cluster, Within::Namespace(catalog)).await {
                Ok(objects) => self.add_all(objects),
                Err(fault) if fault.trouble == Trouble::Forbidden => {
                    self.notes.push(format!("what stands in the catalog namespace is taken not to be there: {fault}"));
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn add_all(&mut self, objects: Vec<(Kind, Vec<DynamicObject>)>) {
        for (kind, objects) in objects {
            objects.into_iter().for_each(|object| self.add(kind, object));
        }
    }

    fn add(&mut self, kind: Kind, object: DynamicObject) {
        let id = id(&object);
        self.said.insert((kind, id.clone()), Said::of(&object));
        let resources = &mut self.resources;
        let read = match kind {
            Kind::Host => keep::<Host>(kind, object, &id, &mut resources.hosts),
            Kind::Model => keep::<Model>(kind, object, &id, &mut resources.models),
            Kind::HostKey => keep::<HostKey>(kind, object, &id, &mut resources.host_keys),
            Kind::RelayKey => keep::<RelayKey>(kind, object, &id, &mut resources.relay_keys),
            Kind::Policy => keep::<Policy>(kind, object, &id, &mut resources.policies),
            // Says to whom what is compiled goes, and is not compiled itself.
            Kind::DataPlane => Ok(()),
        };
        if let Err(reason) = read {
            resources.malformed.push(Malformed { kind, id, reason });
        }
    }

    async fn namespaces(&mut self, cluster: &Cluster) -> Result<(), Fault> {
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(cluster.client.clone());
        let doing = Doing { verb: "list", group: "", plural: "namespaces", namespace: None, name: None };
        match cluster.list_of(doing, &api, ListParams::default()).await {
            Ok(namespaces) => {
                let labels = |of: PartialObjectMeta<Namespace>| {
                    Some((of.metadata.name?, of.metadata.labels.unwrap_or_default()))
                };
                self.resources.namespaces = namespaces.into_iter().filter_map(labels).collect();
            }
            Err(fault) if fault.trouble == Trouble::Forbidden => {
                self.notes.push(format!("namespaces are taken to have no label but their names: {fault}"));
                let used: BTreeSet<String> = self.said.keys().map(|(_, id)| id.namespace.clone()).collect();
                let labelled = used.into_iter().map(|name| (name.clone(), [(NAMESPACE_LABEL.to_owned(), name)].into()));
                self.resources.namespaces = labelled.collect();
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    async fn config_maps(&mut self, cluster: &Cluster) -> Result<(), Fault> {
        for wanted in names::config_maps(&self.resources) {
            let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), &wanted.namespace);
            let found = named(cluster, "configmaps", &wanted, api.get_opt(&wanted.name)).await;
            match found {
                Ok(Some(found)) => _ = self.resources.config_maps.insert(wanted, found.data.unwrap_or_default()),
                Ok(None) => {}
                Err(fault) if fault.trouble == Trouble::Forbidden => self.notes.push(fault.to_string()),
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    async fn secrets(&mut self, cluster: &Cluster) -> Result<(), Fault> {
        let mut closed = BTreeSet::new();
        let wanted: BTreeSet<ObjectRef> =
            names::secrets(&self.resources).into_iter().map(|named| named.secret).collect();
        for wanted in wanted {
            if closed.contains(&wanted.namespace) {
                continue;
            }
            let api: Api<SecretObject> = Api::namespaced(cluster.client.clone(), &wanted.namespace);
            match named(cluster, "secrets", &wanted, api.get_opt(&wanted.name)).await {
                Ok(Some(found)) => self.add_secret(wanted, found),
                Ok(None) => _ = self.missing.insert(wanted),
                Err(fault) if fault.trouble == Trouble::Forbidden => {
                    self.notes.push(fault.to_string());
                    closed.insert(wanted.namespace);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn add_secret(&mut self, id: ObjectRef, secret: SecretObject) {
        let keys = self.resources.relay_keys.iter().filter(|(owner, key)| {
            let names = key.spec.secret.as_ref().is_some_and(|secret| secret.name == id.name);
            names && owner.namespace == id.namespace && !made_for::is_made_for(&secret.metadata, key)
        });
        self.resources.foreign.extend(keys.map(|(owner, _)| owner.clone()));
        let data = secret.data.unwrap_or_default().into_iter();
        let data = data.map(|(key, value)| (key, Secret::new(value.0))).collect();
        self.resources.secrets.insert(id, Arc::new(data));
    }

    /// What it means. What a Secret holds that was not read makes no difference, unless the operator has seen it and says
    /// so.
    pub(crate) fn meaning(&self) -> Meaning {
        let mut resources = self.resources.clone();
        let unread = self.unread();
        for named in &unread {
            let data = resources.secrets.entry(named.secret.clone()).or_default();
            Arc::make_mut(data).entry(named.key.clone()).or_insert_with(|| named.stand_in());
        }
        let mut compilation = compiler::compile(&resources);
        let assumed: BTreeSet<(Kind, ObjectRef)> = unread.into_iter().map(|named| named.owner).collect();
        for (kind, id) in &assumed {
            let report = compilation.reports.iter().find(|report| report.kind == *kind && report.id == *id);
            // What is wrong beside the Secret is known here as well, and judged as it is everywhere.
            let is_refused_anyway = report.is_some_and(compiler::Report::is_refused);
            if let Some(reason) = self.refusal(*kind, id).filter(|_| !is_refused_anyway) {
                refuse(&mut compilation, *kind, id, &reason);
            }
        }
        Meaning { compilation, assumed }
    }

    fn unread(&self) -> Vec<Named> {
        let is_known = |id: &ObjectRef| self.resources.secrets.contains_key(id) || self.missing.contains(id);
        names::secrets(&self.resources).into_iter().filter(|named| !is_known(&named.secret)).collect()
    }

    /// Why the operator refuses an object as it is now.
    fn refusal(&self, kind: Kind, id: &ObjectRef) -> Option<String> {
        let said = self.said.get(&(kind, id.clone()))?;
        let condition = said.fails("Accepted").or_else(|| said.fails("ResolvedRefs"))?;
        Some(format!("the operator says {}: {}", condition.reason, condition.message))
    }
}

fn refuse(compilation: &mut Compilation, kind: Kind, id: &ObjectRef, reason: &str) {
    let Compilation { table, credentials, .. } = compilation;
    match kind {
        Kind::Host => {
            invalidate(&mut table.hosts, id, reason);
            credentials.client_certificates.remove(id);
        }
        Kind::HostKey => {
            invalidate(&mut table.host_keys, id, reason);
            credentials.host_keys.remove(id);
        }
        Kind::RelayKey => invalidate(&mut table.relay_keys, id, reason),
        // They name no Secret.
        Kind::Model | Kind::Policy | Kind::DataPlane => {}
    }
}

fn invalidate<T>(rows: &mut Rows<T>, id: &ObjectRef, reason: &str) {
    if let Some(row @ Row::Usable(_)) = rows.get_mut(id) {
        *row = Row::Invalid { reason: reason.to_owned() };
    }
}

/// Where a credential is, without it.
pub(crate) fn source(credential: &Credential) -> &'static str {
    match credential {
        Credential::Value(_) => "secret",
        Credential::File(_) => "file",
        Credential::Env(_) => "env",
        Credential::Sealed(_) => "sealed",
    }
}

fn keep<T: DeserializeOwned>(
    kind: Kind,
    object: DynamicObject,
    id: &ObjectRef,
    into: &mut BTreeMap<ObjectRef, Arc<T>>,
) -> Result<(), String> {
    into.insert(id.clone(), Arc::new(read::read(kind, object)?));
    Ok(())
}

async fn lists(cluster: &Cluster, within: Within<'_>) -> Result<Vec<(Kind, Vec<DynamicObject>)>, Fault> {
    try_join_all(COMPILED.map(|kind| async move { Ok((kind, cluster.list(kind, within).await?)) })).await
}

async fn named<T>(
    cluster: &Cluster,
    plural: &'static str,
    id: &ObjectRef,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, Fault> {
    let doing = Doing { verb: "get", group: "", plural, namespace: Some(&id.namespace), name: Some(&id.name) };
    cluster.ask(doing, answer).await
}

impl Meaning {
    /// What is not known of it, in a sentence.
    pub(crate) fn note(&self) -> Option<String> {
        let objects = match self.assumed.len() {
            0 => return None,
            1 => "the Secret of 1 object was".to_owned(),
            more => format!("the Secrets of {more} objects were"),
        };
        Some(format!("{objects} not read, and taken to hold what they should, unless the operator says otherwise"))
    }
}
