//! Everything that is watched, as it was last heard of, and all of it at a moment as what the compiler takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use compiler::{Malformed, Resources};
use crds::{DataPlane, Host, HostKey, Model, Policy, RelayKey};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use parking_lot::Mutex;
use table::{ObjectRef, Secret};
use tokio::{sync::Notify, time::Instant};

use crate::{
    config::Namespaces,
    debounce::{Bell, Urgency},
    source_vector::SourceVector,
    watch::{
        Heard,
        doubts::Doubts,
        kept::Kept,
        names::{Named, Names},
        pantry::{Listing, Outcome, Pantry, Ticket, Wanted},
        shelf::Shelf,
    },
};

/// Everything that is watched. Rings a bell whenever something changed that means something.
#[derive(Debug)]
pub struct World {
    pub(crate) hosts: Shelves<Host>,
    pub(crate) models: Shelves<Model>,
    pub(crate) host_keys: Shelves<HostKey>,
    pub(crate) relay_keys: Shelves<RelayKey>,
    pub(crate) policies: Shelves<Policy>,
    pub(crate) data_planes: Shelves<DataPlane>,
    pub(crate) namespaces: Shelves<PartialObjectMeta<Namespace>>,
    pub(crate) secrets: Pantries<BTreeMap<String, Secret<Vec<u8>>>>,
    pub(crate) config_maps: Pantries<BTreeMap<String, String>>,
    bell: Bell,
    doubts: Doubts,
    catalog_namespace: String,
}

/// Everything at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What is compiled.
    pub resources: Resources,
    /// The fleets that it goes to.
    pub data_planes: BTreeMap<ObjectRef, Arc<DataPlane>>,
    /// How new it is.
    pub source_vector: SourceVector,
}

/// A collection that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name, such as `relaykeys` or `relaykeys/team-a`.
    pub name: String,
    /// How often all of it was heard of: from then on only changes are, as long as the server remembers them.
    pub lists: u64,
    /// Why it cannot be heard now; absent: it can.
    pub failing: Option<String>,
}

impl World {
    /// Nothing is heard of yet. DataPlanes are those of the operator's own namespace alone: a fleet is given credentials,
    /// and who may make one elsewhere shall not get them.
    pub fn new(namespaces: &Namespaces) -> Self {
        let scopes = &namespaces.watched;
        Self {
            hosts: Shelves::new("hosts", scopes),
            models: Shelves::new("models", scopes),
            host_keys: Shelves::new("hostkeys", scopes),
            relay_keys: Shelves::new("relaykeys", scopes),
            policies: Shelves::new("policies", scopes),
            data_planes: Shelves::new("dataplanes", &[namespaces.own.clone()].into()),
            namespaces: Shelves::new("namespaces", &[String::new()].into()),
            secrets: Pantries::new("secrets", scopes),
            config_maps: Pantries::new("configmaps", scopes),
            bell: Bell::default(),
            doubts: Doubts::default(),
            catalog_namespace: namespaces.catalog.clone(),
        }
    }

    /// Rings when something changed.
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Who has reason to doubt that what was heard of a collection is all that there is says so here.
    pub(crate) fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    pub(crate) fn hear<T: Kept>(&self, shelves: &Shelves<T>, scope: &str, heard: Heard<T::Raw>) {
        let news = news_of_age(&heard);
        if let Some(urgency) = shelves.hear(scope, heard).or(news) {
            self.bell.ring(urgency);
        }
    }

    pub(crate) fn hear_metadata<T: PartialEq>(
        &self,
        pantries: &Pantries<T>,
        scope: &str,
        heard: Heard<PartialObjectMeta<impl Sized>>,
    ) {
        let news = news_of_age(&heard);
        if pantries.hear(scope, heard) || news.is_some() {
            self.bell.ring(Urgency::Usual);
        }
    }

    pub(crate) fn read<T: PartialEq>(
        &self,
        pantries: &Pantries<T>,
        id: &ObjectRef,
        ticket: Ticket,
        outcome: Outcome<T>,
    ) {
        let urgency = pantries.pantry.lock().read(id, ticket, outcome, Instant::now());
        if let Some(urgency) = urgency {
            self.bell.ring(urgency);
        }
    }

    /// Every collection that is watched.
    pub fn standings(&self) -> Vec<Standing> {
        let mut all = Vec::new();
        self.hosts.standings(&mut all);
        self.models.standings(&mut all);
        self.host_keys.standings(&mut all);
        self.relay_keys.standings(&mut all);
        self.policies.standings(&mut all);
        self.data_planes.standings(&mut all);
        self.namespaces.standings(&mut all);
        self.secrets.standings(&mut all);
        self.config_maps.standings(&mut all);
        all
    }

    /// What has to be heard or read before anything may be published, in words; absent: nothing.
    pub fn missing(&self) -> Option<String> {
        let unlisted = self.standings().into_iter().filter(|standing| standing.lists == 0);
        let unlisted: Vec<String> = unlisted
            .map(|standing| match standing.failing {
                Some(reason) => format!("{} ({reason})", standing.name),
                None => standing.name,
            })
            .collect();
        if !unlisted.is_empty() {
            return Some(format!("not listed yet: {}", unlisted.join(", ")));
        }
        let unread = self.secrets.pantry.lock().unread() + self.config_maps.pantry.lock().unread();
        (unread > 0).then(|| format!("{unread} Secrets and ConfigMaps that objects name were not read yet"))
    }

    /// Has everything read that the objects name, and what those of `before` name, which may still be in effect.
    pub fn want(&self, before: &Resources) {
        let mut named = AllNamed::default();
        named.add_all(before.hosts.values());
        named.add_all(before.host_keys.values());
        named.add_all(before.relay_keys.values());
        self.hosts.each(|_, host| named.add(&**host));
        self.host_keys.each(|_, key| named.add(&**key));
        self.relay_keys.each(|_, key| named.add(&**key));
        self.secrets.want(&named.secrets);
        self.config_maps.want(&named.config_maps);
    }

    /// Everything at this moment. An object that names what was not read yet is as it was in `before`, or absent where it
    /// was not there: it comes into effect together with what it names.
    pub fn snapshot(&self, before: &Resources) -> Snapshot {
        let (secrets, config_maps) = (self.secrets.pantry.lock(), self.config_maps.pantry.lock());
        let is_unread = |named: &Named| match named {
            Named::Secret(id) | Named::Minted(id) => secrets.is_unread(id),
            Named::ConfigMap(id) => config_maps.is_unread(id),
        };
        let is_complete = |object: &dyn Names| !object.waits() || !object.names().iter().any(is_unread);
        let mut all = Snapshot::default();
        let hosts = self.hosts.take(&mut all, &before.hosts, |host| is_complete(host));
        let models = self.models.take(&mut all, &before.models, |_| true);
        let host_keys = self.host_keys.take(&mut all, &before.host_keys, |key| is_complete(key));
        let relay_keys = self.relay_keys.take(&mut all, &before.relay_keys, |key| is_complete(key));
        // Decided with what is taken, under the same locks: no moment may show a token that is not of its RelayKey.
        let is_foreign = |id: &ObjectRef, key: &RelayKey| {
            let name = &key.spec.secret.as_ref()?.name;
            secrets.is_made_for(&ObjectRef::new(&id.namespace, name), key).map(|is_made_for| !is_made_for)
        };
        let foreign = relay_keys.iter().filter(|(id, key)| is_foreign(id, key) == Some(true));
        let foreign = foreign.map(|(id, _)| id.clone()).collect();
        let policies = self.policies.take(&mut all, &before.policies, |_| true);
        all.data_planes = self.data_planes.take(&mut all, &BTreeMap::new(), |_| true);
        let namespaces = self.namespaces.take(&mut all, &BTreeMap::new(), |_| true);
        self.secrets.add_positions(&secrets, &mut all.source_vector);
        self.config_maps.add_positions(&config_maps, &mut all.source_vector);
        let labels = |(id, namespace): (ObjectRef, Arc<PartialObjectMeta<Namespace>>)| {
            (id.name, namespace.metadata.labels.clone().unwrap_or_default())
        };
        all.resources = Resources {
            hosts,
            models,
            host_keys,
            relay_keys,
            policies,
            malformed: all.resources.malformed,
            secrets: secrets.held().map(|(id, data)| (id.clone(), data.clone())).collect(),
            foreign,
            config_maps: config_maps.held().map(|(id, data)| (id.clone(), (**data).clone())).collect(),
            namespaces: namespaces.into_iter().map(labels).collect(),
            catalog_namespace: self.catalog_namespace.clone(),
        };
        all
    }

    /// The Host of that name as it was last heard of, with its status.
    pub fn host(&self, id: &ObjectRef) -> Option<Arc<Host>> {
        self.hosts.get(id)
    }

    /// The Model of that name as it was last heard of, with its status.
    pub fn model(&self, id: &ObjectRef) -> Option<Arc<Model>> {
        self.models.get(id)
    }

    /// The HostKey of that name as it was last heard of, with its status.
    pub fn host_key(&self, id: &ObjectRef) -> Option<Arc<HostKey>> {
        self.host_keys.get(id)
    }

    /// The RelayKey of that name as it was last heard of, with its status.
    pub fn relay_key(&self, id: &ObjectRef) -> Option<Arc<RelayKey>> {
        self.relay_keys.get(id)
    }

    /// The DataPlane of that name as it was last heard of, with its status.
    pub fn data_plane(&self, id: &ObjectRef) -> Option<Arc<DataPlane>> {
        self.data_planes.get(id)
    }

    /// The Policy of that name as it was last heard of, with its status.
    pub fn policy(&self, id: &ObjectRef) -> Option<Arc<Policy>> {
        self.policies.get(id)
    }
}

/// A list says how new everything is, which is to be published also where all is as it was.
fn news_of_age<K>(heard: &Heard<K>) -> Option<Urgency> {
    matches!(heard, Heard::Listed(_)).then_some(Urgency::Usual)
}

#[derive(Default)]
struct AllNamed {
    secrets: Wanted,
    config_maps: Wanted,
}

impl AllNamed {
    fn add(&mut self, object: &impl Names) {
        for named in object.names() {
            match named {
                Named::Secret(id) => self.secrets.all.insert(id),
                Named::Minted(id) => self.secrets.all.insert(id.clone()) | self.secrets.labelled.insert(id),
                Named::ConfigMap(id) => self.config_maps.all.insert(id),
            };
        }
    }

    fn add_all<'a, T: Names + 'a>(&mut self, objects: impl Iterator<Item = &'a Arc<T>>) {
        objects.for_each(|object| self.add(&**object));
    }
}

/// The name of a collection within a scope.
pub(crate) fn title(name: &str, scope: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{name}/{scope}") }
}

/// The shelves of one kind: one for each namespace that is watched, or one for all.
#[derive(Debug)]
pub(crate) struct Shelves<T> {
    pub(crate) name: &'static str,
    by_scope: BTreeMap<String, Mutex<Shelf<T>>>,
}

impl<T: Kept> Shelves<T> {
    fn new(name: &'static str, scopes: &BTreeSet<String>) -> Self {
        Self { name, by_scope: scopes.iter().map(|scope| (scope.clone(), Mutex::default())).collect() }
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = &str> {
        self.by_scope.keys().map(String::as_str)
    }

    fn hear(&self, scope: &str, heard: Heard<T::Raw>) -> Option<Urgency> {
        self.by_scope.get(scope)?.lock().hear(heard)
    }

    fn standings(&self, all: &mut Vec<Standing>) {
        all.extend(self.by_scope.iter().map(|(scope, shelf)| {
            let shelf = shelf.lock();
            let failing = shelf.failing().map(str::to_owned);
            Standing { name: title(self.name, scope), lists: shelf.lists(), failing }
        }));
    }

    fn each(&self, mut with: impl FnMut(&ObjectRef, &Arc<T>)) {
        for shelf in self.by_scope.values() {
            shelf.lock().readable().for_each(|(id, object)| with(id, object));
        }
    }

    fn get(&self, id: &ObjectRef) -> Option<Arc<T>> {
        let shelf = self.by_scope.get(&id.namespace).or_else(|| self.by_scope.get(""))?;
        shelf.lock().get(id).cloned()
    }

    /// All objects, or what was there before where one is not complete; adds what cannot be read, and how new all is.
    fn take(
        &self,
        all: &mut Snapshot,
        before: &BTreeMap<ObjectRef, Arc<T>>,
        is_complete: impl Fn(&T) -> bool,
    ) -> BTreeMap<ObjectRef, Arc<T>> {
        let mut taken = BTreeMap::new();
        for (scope, shelf) in &self.by_scope {
            let shelf = shelf.lock();
            all.source_vector.0.insert(title(self.name, scope), shelf.position());
            let objects = shelf.readable().filter_map(|(id, object)| {
                let chosen = if is_complete(object) { Some(object) } else { before.get(id) };
                Some((id.clone(), chosen?.clone()))
            });
            // Collected at once, because sorted objects make a map faster than one insertion after the other.
            let mut objects: BTreeMap<_, _> = objects.collect();
            taken.append(&mut objects);
            let Some(kind) = T::KIND else { continue };
            let unreadable = shelf.unreadable();
            let malformed =
                unreadable.map(|(id, reason)| Malformed { kind, id: id.clone(), reason: reason.to_owned() });
            all.resources.malformed.extend(malformed);
        }
        taken
    }
}

/// The Secrets or the ConfigMaps that are named.
#[derive(Debug)]
pub(crate) struct Pantries<T> {
    pub(crate) name: &'static str,
    pantry: Mutex<Pantry<T>>,
    due: Notify,
}

impl<T: PartialEq> Pantries<T> {
    fn new(name: &'static str, scopes: &BTreeSet<String>) -> Self {
        Self { name, pantry: Mutex::new(Pantry::new(scopes.iter().cloned())), due: Notify::new() }
    }

    pub(crate) fn scopes(&self) -> Vec<String> {
        self.pantry.lock().scopes().map(|(scope, ..)| scope.to_owned()).collect()
    }

    fn hear(&self, scope: &str, heard: Heard<PartialObjectMeta<impl Sized>>) -> bool {
        let is_news = self.pantry.lock().hear(scope, heard.map(|object| object.metadata), Instant::now());
        self.due.notify_one();
        is_news
    }

    fn want(&self, wanted: &Wanted) {
        self.pantry.lock().want(wanted, Instant::now());
        self.due.notify_one();
    }

    /// What is to be read by lists now, at most `most` of them.
    pub(crate) fn ask_listings(&self, most: usize) -> Vec<Listing> {
        self.pantry.lock().ask_listings(most, Instant::now())
    }

    /// A list has ended without these.
    pub(crate) fn give_back(&self, asked: &BTreeMap<ObjectRef, Ticket>) {
        self.pantry.lock().give_back(asked);
        self.due.notify_one();
    }

    /// At most `most` that have to be read by name now, and when the next has to be that is not among them.
    pub(crate) fn ask(&self, most: usize) -> (Vec<(ObjectRef, Ticket)>, Option<Instant>) {
        let mut pantry = self.pantry.lock();
        (pantry.ask(most, Instant::now()), pantry.next())
    }

    /// Waits until one may have become due.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    fn standings(&self, all: &mut Vec<Standing>) {
        let pantry = self.pantry.lock();
        all.extend(pantry.scopes().map(|(scope, lists, failing)| {
            let failing = failing.map(str::to_owned);
            Standing { name: title(self.name, scope), lists, failing }
        }));
    }

    fn add_positions(&self, pantry: &Pantry<T>, vector: &mut SourceVector) {
        vector.0.extend(pantry.positions().map(|(scope, position)| (title(self.name, scope), position)));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "main";

    fn world() -> World {
        let watched = [String::new()].into();
        World::new(&Namespaces { own: "relay".to_owned(), catalog: "relay".to_owned(), watched })
    }

    fn id(name: &str) -> ObjectRef {
        ObjectRef::new("n", name)
    }

    fn object(name: &str, spec: Value) -> DynamicObject {
        let metadata = json!({"name": name, "namespace": "n", "uid": name, "generation": 1, "resourceVersion": "7"});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn host_key(secret: &str) -> DynamicObject {
        object(KEY, json!({"hostRef": {"name": "h"}, "source": {"secretKeyRef": {"name": secret, "key": "token"}}}))
    }

    fn relay_key(revoked: bool) -> DynamicObject {
        let spec = json!({"policyRefs": [{"name": "p"}], "secret": {"name": "token"}, "revoked": revoked});
        object("app", spec)
    }

    fn list<T: Kept>(world: &World, shelves: &Shelves<T>, objects: impl IntoIterator<Item = T::Raw>) {
        let scope = shelves.scopes().next().unwrap().to_owned();
        world.hear(shelves, &scope, Heard::Listing);
        objects.into_iter().for_each(|object| world.hear(shelves, &scope, Heard::Item(object)));
        world.hear(shelves, &scope, Heard::Listed(10));
    }

    fn list_metadata<T: PartialEq>(world: &World, pantries: &Pantries<T>) {
        world.hear_metadata(pantries, "", Heard::<PartialObjectMeta<()>>::Listing);
        world.hear_metadata(pantries, "", Heard::<PartialObjectMeta<()>>::Listed(10));
    }

    /// All kinds but Secrets are listed; there is one HostKey.
    fn listed() -> World {
        let world = world();
        list(&world, &world.hosts, []);
        list(&world, &world.models, []);
        list(&world, &world.host_keys, [host_key("first")]);
        list(&world, &world.relay_keys, []);
        list(&world, &world.policies, []);
        list(&world, &world.data_planes, []);
        list(&world, &world.namespaces, []);
        list_metadata(&world, &world.config_maps);
        world
    }

    /// Answers all reads of Secrets that are due with this value.
    fn answer(world: &World, value: &str) {
        for (id, ticket) in world.secrets.ask(usize::MAX).0 {
            let data = [("token".to_owned(), Secret::new(value.as_bytes().to_vec()))].into();
            world.read(&world.secrets, &id, ticket, Outcome::Found(Box::default(), data));
        }
    }

    fn secret_of(snapshot: &Snapshot) -> Option<String> {
        let key = snapshot.resources.host_keys.get(&id(KEY))?;
        key.spec.source.secret_key_ref.as_ref().map(|reference| reference.name.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_list_is_heard_also_where_nothing_of_it_is_named() {
        let world = listed();
        world.want(&Resources::default());
        answer(&world, "sk-1");
        world.bell().settled().await;
        assert_eq!(world.missing().as_deref(), Some("not listed yet: secrets"));
        list_metadata(&world, &world.secrets);
        tokio::time::timeout(std::time::Duration::from_secs(1), world.bell().settled()).await.expect("the bell rings");
        assert_eq!(world.missing(), None);
    }

    #[test]
    fn an_object_waits_for_what_it_names_and_is_as_it_was_until_then() {
        let world = listed();
        let nothing = Resources::default();
        world.want(&nothing);
        assert_eq!(secret_of(&world.snapshot(&nothing)), None);
        answer(&world, "sk-1");
        let first = world.snapshot(&nothing);
        assert_eq!(secret_of(&first).as_deref(), Some("first"));

        let mut changed = host_key("second");
        changed.metadata.generation = Some(2);
        world.hear(&world.host_keys, "", Heard::Applied(11, changed));
        world.want(&first.resources);
        let waiting = world.snapshot(&first.resources);
        assert_eq!(secret_of(&waiting).as_deref(), Some("first"));
        assert!(waiting.resources.secrets.contains_key(&id("first")), "what is in effect keeps what it names");
        answer(&world, "sk-2");
        let second = world.snapshot(&waiting.resources);
        assert_eq!(secret_of(&second).as_deref(), Some("second"));
        world.want(&second.resources);
        let names: Vec<ObjectRef> = world.snapshot(&second.resources).resources.secrets.into_keys().collect();
        assert_eq!(names, [id("second")]);
    }

    #[test]
    fn a_revoked_key_waits_for_nothing() {
        let world = listed();
        world.hear(&world.relay_keys, "", Heard::Applied(11, relay_key(false)));
        let nothing = Resources::default();
        world.want(&nothing);
        assert!(world.snapshot(&nothing).resources.relay_keys.is_empty());
        let mut revoked = relay_key(true);
        revoked.metadata.generation = Some(2);
        world.hear(&world.relay_keys, "", Heard::Applied(12, revoked));
        assert!(world.snapshot(&nothing).resources.relay_keys.contains_key(&id("app")));
        assert_eq!(world.bell().settled().now_or_never(), Some(Urgency::Urgent));
    }

    #[test]
    fn what_cannot_be_read_is_in_the_snapshot_with_its_reason() {
        let world = listed();
        world.hear(&world.policies, "", Heard::Applied(11, object("bad", json!({"models": 5}))));
        let malformed = world.snapshot(&Resources::default()).resources.malformed;
        assert_eq!((malformed.len(), &malformed[0].id), (1, &id("bad")));
        assert!(malformed[0].reason.contains("spec.models"), "{malformed:?}");
    }
}
