//! Secrets or ConfigMaps that objects name, read by name. A watch of metadata alone says when one has to be read again;
//! what nobody names is not kept. Many that Relay made itself are read by one list of those with its label, at first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::RelayKey;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use table::ObjectRef;
use tokio::time::Instant;

use crate::{
    debounce::Urgency,
    mint::MadeFor,
    source_vector::Position,
    watch::{
        follow::{Heard, wait},
        kept::fingerprint,
    },
};

/// So many that have the label and were not read yet are read by a list; fewer by name.
const MANY: usize = 16;

/// What is named, and which of it has the label of what Relay makes, if it is there.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) all: BTreeSet<ObjectRef>,
    pub(crate) labelled: BTreeSet<ObjectRef>,
}

/// What is to be read by one list of what has the label in a scope.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) scope: String,
    pub(crate) asked: BTreeMap<ObjectRef, Ticket>,
}

/// What was read of each that is named.
#[derive(Debug)]
pub(crate) struct Pantry<T> {
    entries: BTreeMap<ObjectRef, Entry<T>>,
    /// The watch of each namespace, or of all (an empty name).
    scopes: BTreeMap<String, Scope>,
    tickets: u64,
    /// Something that has the label is newly named.
    has_labelled: bool,
}

#[derive(Debug, Default)]
struct Scope {
    version: u64,
    lists: u64,
    failing: Option<String>,
    /// Those that are named and that a list brought so far.
    listing: BTreeSet<ObjectRef>,
    /// The list has brought something, and not yet all.
    is_arriving: bool,
}

#[derive(Debug)]
struct Entry<T> {
    state: State<T>,
    /// What it was when it was read.
    identity: Option<Identity>,
    /// Whose it said it was when it was read.
    made_for: MadeFor,
    /// A list of those with the label may bring it, and none was asked for it yet.
    is_labelled: bool,
    /// It has to be read: it was first named, or has changed.
    due: Option<Due>,
    /// It is being read, for this reason.
    reading: Option<(Ticket, Due)>,
}

#[derive(Debug)]
enum State<T> {
    /// Not yet.
    Unread,
    /// It was there.
    Held(Arc<T>),
    /// It was not there.
    Missing,
    /// It may not be read, and never was.
    Refused,
}

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    uid: String,
    version: String,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    /// The version at which it changed; none where it was never read.
    since: Option<u64>,
    /// Not before.
    at: Instant,
    failures: u32,
}

/// One read. An answer without its ticket came too late and says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// How reading one of them ended.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It is there.
    Found(Box<ObjectMeta>, T),
    /// It is not there: the server said so.
    Missing,
    /// The server does not let it be read.
    Refused,
    /// Nobody knows.
    Failed,
}

impl<T: PartialEq> Pantry<T> {
    /// Nothing is named yet; `scopes` are the namespaces that are watched, or an empty name for all.
    pub(crate) fn new(scopes: impl IntoIterator<Item = String>) -> Self {
        let scopes = scopes.into_iter().map(|name| (name, Scope::default())).collect();
        Self { entries: BTreeMap::new(), scopes, tickets: 0, has_labelled: false }
    }

    /// From now on exactly these are named. What is not named any more is forgotten.
    pub(crate) fn want(&mut self, wanted: &Wanted, now: Instant) {
        self.entries.retain(|id, _| wanted.all.contains(id));
        for id in &wanted.all {
            if !self.entries.contains_key(id) {
                let due = Some(Due { since: None, at: now, failures: 0 });
                let (made_for, is_labelled) = (MadeFor::default(), wanted.labelled.contains(id));
                self.has_labelled |= is_labelled;
                let entry = Entry { state: State::Unread, identity: None, made_for, is_labelled, due, reading: None };
                self.entries.insert(id.clone(), entry);
                self.excuse(id);
            }
        }
    }

    /// A list whose answer has begun to come may have brought one that is named only now, and is no newer than what is
    /// read of it from now on: its end is no reason to read that again.
    fn excuse(&mut self, id: &ObjectRef) {
        let scopes = self.scopes.iter_mut().filter(|(name, _)| name.is_empty() || **name == id.namespace);
        for (_, scope) in scopes.filter(|(_, scope)| scope.is_arriving) {
            scope.listing.insert(id.clone());
        }
    }

    /// Takes in what was heard of metadata in a scope. What changed is due. Says whether that was the end of its first
    /// list: whoever waits for all to be listed has to look again.
    pub(crate) fn hear(&mut self, scope: &str, heard: Heard<ObjectMeta>, now: Instant) -> bool {
        let lists = self.scope(scope).lists;
        self.take_in(scope, heard, now);
        lists == 0 && self.scope(scope).lists > 0
    }

    fn take_in(&mut self, scope: &str, heard: Heard<ObjectMeta>, now: Instant) {
        match heard {
            Heard::Listing => {
                let scope = self.scope(scope);
                scope.listing.clear();
                scope.is_arriving = false;
            }
            Heard::Item(metadata) => {
                self.scope(scope).is_arriving = true;
                let Some(id) = self.named(&metadata) else { return };
                // A change of before the list has no version of its own; the list's end brings one.
                self.changed(&id, &metadata, 0, now);
                self.scope(scope).listing.insert(id);
            }
            Heard::Listed(version) => self.listed(scope, version, now),
            Heard::Applied(version, metadata) => {
                self.scope(scope).version = version;
                if let Some(id) = self.named(&metadata) {
                    self.changed(&id, &metadata, version, now);
                }
            }
            Heard::Deleted(version, metadata) => {
                self.scope(scope).version = version;
                // It may be there again since: only a read knows.
                if let Some(id) = self.named(&metadata) {
                    self.due(&id, version, now);
                }
            }
            Heard::Bookmark(version) => self.scope(scope).version = version,
            Heard::Failing(reason) => self.scope(scope).failing = Some(reason),
            Heard::Hearing => self.scope(scope).failing = None,
        }
    }

    fn listed(&mut self, name: &str, version: u64, now: Instant) {
        let scope = self.scope(name);
        scope.version = version;
        scope.lists += 1;
        scope.is_arriving = false;
        let there = std::mem::take(&mut scope.listing);
        let is_held = |entry: &Entry<T>| matches!(entry.state, State::Held(_));
        let here = self
            .entries
            .iter()
            .filter(|(id, entry)| (name.is_empty() || id.namespace == name) && is_held(entry) && !there.contains(*id));
        let gone: Vec<ObjectRef> = here.map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| self.due(id, version, now));
    }

    fn scope(&mut self, name: &str) -> &mut Scope {
        self.scopes.entry(name.to_owned()).or_default()
    }

    fn named(&self, metadata: &ObjectMeta) -> Option<ObjectRef> {
        let id = ObjectRef::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone()?);
        self.entries.contains_key(&id).then_some(id)
    }

    fn changed(&mut self, id: &ObjectRef, metadata: &ObjectMeta, version: u64, now: Instant) {
        let is_known = self.entries.get(id).is_some_and(|entry| entry.identity == identity(metadata));
        if !is_known {
            self.due(id, version, now);
        }
    }

    fn due(&mut self, id: &ObjectRef, version: u64, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let since = match (&entry.state, entry.due) {
            (State::Unread, _) => None,
            (_, Some(due)) => due.since.map(|since| since.min(version)),
            (_, None) => Some(version),
        };
        // One that is being read is read again after that: the answer may be older than what was heard.
        entry.due = Some(Due { since, at: now, failures: 0 });
    }

    /// At most `most` of those that have to be read by name now. Each is read by one at a time.
    pub(crate) fn ask(&mut self, most: usize, now: Instant) -> Vec<(ObjectRef, Ticket)> {
        let due = self.entries.iter_mut().filter_map(|(id, entry)| Some((id, entry.begin(&mut self.tickets, now)?)));
        due.take(most).map(|(id, ticket)| (id.clone(), ticket)).collect()
    }

    /// What is to be read by lists, at most `most` of them. Each object is asked for in this way once: what a list does
    /// not bring is read by name.
    pub(crate) fn ask_listings(&mut self, most: usize, now: Instant) -> Vec<Listing> {
        if !std::mem::take(&mut self.has_labelled) {
            return Vec::new();
        }
        let mut by_scope: BTreeMap<String, Vec<ObjectRef>> = BTreeMap::new();
        for (id, _) in self.entries.iter().filter(|(_, entry)| entry.is_labelled && entry.is_due(now)) {
            let scope = if self.scopes.contains_key(&id.namespace) { id.namespace.as_str() } else { "" };
            by_scope.entry(scope.to_owned()).or_default().push(id.clone());
        }
        by_scope.retain(|_, ids| ids.len() >= MANY);
        self.has_labelled = by_scope.len() > most;
        by_scope.into_iter().take(most).map(|(scope, ids)| Listing { scope, asked: self.begin_all(ids, now) }).collect()
    }

    fn begin_all(&mut self, ids: Vec<ObjectRef>, now: Instant) -> BTreeMap<ObjectRef, Ticket> {
        let mut asked = BTreeMap::new();
        for id in ids {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.is_labelled = false;
            asked.extend(entry.begin(&mut self.tickets, now).map(|ticket| (id, ticket)));
        }
        asked
    }

    /// A list has ended without these: they are read by name.
    pub(crate) fn give_back(&mut self, asked: &BTreeMap<ObjectRef, Ticket>) {
        for (id, ticket) in asked {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if let Some((_, due)) = entry.reading.take_if(|(reading, _)| reading == ticket) {
                entry.due.get_or_insert(due);
            }
        }
    }

    /// When the next has to be read; absent: nothing is due that is not being read.
    pub(crate) fn next(&self) -> Option<Instant> {
        let idle = self.entries.values().filter(|entry| entry.reading.is_none());
        idle.filter_map(|entry| entry.due).map(|due| due.at).min()
    }

    /// Takes in how a read ended. Says how soon it has to be in effect; absent: nothing changed.
    pub(crate) fn read(
        &mut self,
        id: &ObjectRef,
        ticket: Ticket,
        outcome: Outcome<T>,
        now: Instant,
    ) -> Option<Urgency> {
        let entry = self.entries.get_mut(id)?;
        let (_, due) = entry.reading.take_if(|(asked, _)| *asked == ticket)?;
        let is_again = matches!(outcome, Outcome::Refused | Outcome::Failed);
        if is_again && entry.due.is_none() {
            let failures = due.failures + 1;
            entry.due = Some(Due { at: now + wait(failures), failures, ..due });
        }
        entry.learn(outcome)
    }

    /// Whether one that is named was not read yet.
    pub(crate) fn is_unread(&self, id: &ObjectRef) -> bool {
        self.entries.get(id).is_none_or(|entry| matches!(entry.state, State::Unread))
    }

    /// How many that are named were not read yet.
    pub(crate) fn unread(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.state, State::Unread)).count()
    }

    /// Whether what was read says that it was made for this RelayKey; absent: there is nothing.
    pub(crate) fn is_made_for(&self, id: &ObjectRef, key: &RelayKey) -> Option<bool> {
        let entry = self.entries.get(id)?;
        matches!(entry.state, State::Held(_)).then(|| entry.made_for.is(key))
    }

    /// What there is.
    pub(crate) fn held(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<T>)> {
        self.entries.iter().filter_map(|(id, entry)| match &entry.state {
            State::Held(data) => Some((id, data)),
            State::Unread | State::Missing | State::Refused => None,
        })
    }

    /// Scopes with how often each was listed, and why it cannot be heard.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = (&str, u64, Option<&str>)> {
        self.scopes.iter().map(|(name, scope)| (name.as_str(), scope.lists, scope.failing.as_deref()))
    }

    /// How new each scope is: not newer than what was heard of and is still to be read.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&str, Position)> {
        self.scopes.iter().map(|(name, scope)| {
            let within = self.entries.iter().filter(|(id, _)| name.is_empty() || id.namespace == *name);
            let mut position = Position { version: scope.version, state: 0 };
            for (id, entry) in within {
                if let Some(since) = entry.doubted() {
                    position.version = position.version.min(since.saturating_sub(1));
                }
                position.state ^= entry.number(id);
            }
            (name.as_str(), position)
        })
    }
}

impl<T: PartialEq> Entry<T> {
    fn learn(&mut self, outcome: Outcome<T>) -> Option<Urgency> {
        let (state, urgency) = match (outcome, &self.state) {
            (Outcome::Found(metadata, data), State::Held(held)) if **held == data => {
                // Whoever it was made for may lose what it holds, and that must not wait.
                return self.recognise(&metadata).then_some(Urgency::Urgent);
            }
            (Outcome::Found(metadata, data), _) => {
                self.recognise(&metadata);
                (State::Held(Arc::new(data)), Urgency::Usual)
            }
            (Outcome::Missing, State::Missing) | (Outcome::Failed, _) => return None,
            (Outcome::Missing, State::Held(_)) => (State::Missing, Urgency::Urgent),
            (Outcome::Missing, State::Unread | State::Refused) => (State::Missing, Urgency::Usual),
            (Outcome::Refused, State::Unread) => (State::Refused, Urgency::Usual),
            // What was read while it was allowed stays, as it does while nobody answers.
            (Outcome::Refused, State::Held(_) | State::Missing | State::Refused) => return None,
        };
        if matches!(state, State::Missing) {
            self.identity = None;
        }
        self.state = state;
        Some(urgency)
    }

    /// Takes note of what it is. Says whether it now says that it is somebody else's.
    fn recognise(&mut self, metadata: &ObjectMeta) -> bool {
        self.identity = identity(metadata);
        let made_for = MadeFor::of(metadata);
        std::mem::replace(&mut self.made_for, made_for) != self.made_for
    }

    fn is_due(&self, now: Instant) -> bool {
        self.reading.is_none() && self.due.is_some_and(|due| due.at <= now)
    }

    /// Begins to read it if that is due.
    fn begin(&mut self, tickets: &mut u64, now: Instant) -> Option<Ticket> {
        if !self.is_due(now) {
            return None;
        }
        *tickets += 1;
        let ticket = Ticket(*tickets);
        self.reading = self.due.take().map(|due| (ticket, due));
        Some(ticket)
    }

    /// The version below which it may be older than what was heard.
    fn doubted(&self) -> Option<u64> {
        let reading = self.reading.and_then(|(_, due)| due.since);
        let due = self.due.and_then(|due| due.since);
        reading.into_iter().chain(due).min()
    }
}

impl<T> Entry<T> {
    fn number(&self, id: &ObjectRef) -> u64 {
        let Some(identity) = &self.identity else { return 0 };
        fingerprint(&ObjectMeta {
            namespace: Some(id.namespace.clone()),
            name: Some(id.name.clone()),
            uid: Some(identity.uid.clone()),
            resource_version: Some(identity.version.clone()),
            ..ObjectMeta::default()
        })
    }
}

fn identity(metadata: &ObjectMeta) -> Option<Identity> {
    Some(Identity { uid: metadata.uid.clone()?, version: metadata.resource_version.clone()? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(name: &str) -> ObjectRef {
        ObjectRef::new("n", name)
    }

    fn metadata(name: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            namespace: Some("n".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(format!("uid of {name}")),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    fn found(metadata: ObjectMeta, data: &'static str) -> Outcome<&'static str> {
        Outcome::Found(Box::new(metadata), data)
    }

    struct Kitchen {
        pantry: Pantry<&'static str>,
        is_listed: bool,
        now: Instant,
    }

    impl Kitchen {
        /// All of `names` are wanted, and the watch has listed them at version 10.
        fn wanting(names: &[&str]) -> Self {
            let pantry = Pantry::new([String::new()]);
            let mut kitchen = Self { pantry, is_listed: false, now: Instant::now() };
            kitchen.want(names);
            kitchen.hear(Heard::Listing);
            names.iter().for_each(|name| kitchen.hear(Heard::Item(metadata(name, 1))));
            kitchen.hear(Heard::Listed(10));
            kitchen
        }

        fn want(&mut self, names: &[&str]) {
            let all = names.iter().map(|name| id(name)).collect();
            self.pantry.want(&Wanted { all, labelled: BTreeSet::new() }, self.now);
        }

        fn hear(&mut self, heard: Heard<ObjectMeta>) {
            let is_listing = matches!(heard, Heard::Listed(_));
            let is_first = !self.is_listed && is_listing;
            assert_eq!(self.pantry.hear("", heard, self.now), is_first, "the first list is news");
            self.is_listed |= is_listing;
        }

        fn asked(&mut self) -> Vec<(ObjectRef, Ticket)> {
            self.pantry.ask(usize::MAX, self.now)
        }

        /// Lets one read end that is due.
        fn reads(&mut self, outcome: Outcome<&'static str>) -> Option<Urgency> {
            let asked = self.asked();
            assert_eq!(asked.len(), 1, "{asked:?}");
            self.pantry.read(&asked[0].0, asked[0].1, outcome, self.now)
        }

        fn held(&self) -> Vec<&'static str> {
            self.pantry.held().map(|(_, data)| **data).collect()
        }

        fn version(&self) -> u64 {
            self.pantry.positions().next().unwrap().1.version
        }
    }

    #[test]
    fn what_is_named_is_read_once_and_what_is_not_never() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        kitchen.hear(Heard::Applied(11, metadata("stranger", 11)));
        assert_eq!(kitchen.pantry.unread(), 1);
        assert_eq!(kitchen.reads(found(metadata("a", 1), "one")), Some(Urgency::Usual));
        assert_eq!((kitchen.held(), kitchen.pantry.unread()), (vec!["one"], 0));
        assert_eq!(kitchen.asked(), []);
        kitchen.hear(Heard::Applied(12, metadata("a", 1)));
        assert_eq!(kitchen.asked(), [], "this version was read");
        kitchen.want(&[]);
        assert_eq!(kitchen.held(), [] as [&str; 0]);
    }

    #[test]
    fn a_change_is_read_and_one_of_metadata_alone_means_nothing() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        kitchen.reads(found(metadata("a", 1), "one"));
        kitchen.hear(Heard::Applied(11, metadata("a", 11)));
        assert_eq!(kitchen.reads(found(metadata("a", 11), "one")), None);
        kitchen.hear(Heard::Applied(12, metadata("a", 12)));
        assert_eq!(kitchen.reads(found(metadata("a", 12), "two")), Some(Urgency::Usual));
        assert_eq!(kitchen.held(), ["two"]);
    }

    #[test]
    fn only_the_servers_word_makes_it_missing() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        kitchen.reads(found(metadata("a", 1), "one"));
        for outcome in [Outcome::Failed, Outcome::Refused, Outcome::Failed] {
            kitchen.hear(Heard::Deleted(11, metadata("a", 11)));
            assert_eq!(kitchen.reads(outcome), None);
            assert_eq!(kitchen.held(), ["one"]);
            assert_eq!(kitchen.asked(), [], "not at once again");
        }
        kitchen.now += Duration::from_secs(5);
        assert_eq!(kitchen.reads(Outcome::Missing), Some(Urgency::Urgent));
        assert_eq!(kitchen.held(), [] as [&str; 0]);
        assert_eq!(kitchen.asked(), []);
    }

    #[test]
    fn a_list_without_it_makes_it_due() {
        let mut kitchen = Kitchen::wanting(&["a", "b"]);
        for (id, ticket) in kitchen.asked() {
            kitchen.pantry.read(&id, ticket, found(metadata(&id.name, 1), "held"), kitchen.now);
        }
        kitchen.hear(Heard::Listing);
        kitchen.hear(Heard::Item(metadata("b", 1)));
        kitchen.hear(Heard::Listed(20));
        let asked: Vec<_> = kitchen.asked().into_iter().map(|(id, _)| id.name).collect();
        assert_eq!(asked, ["a"]);
    }

    #[test]
    fn one_that_is_named_while_a_list_comes_is_read_once() {
        let listed_after = |is_arriving: bool| {
            let mut kitchen = Kitchen::wanting(&[]);
            kitchen.hear(Heard::Listing);
            if is_arriving {
                kitchen.hear(Heard::Item(metadata("a", 1)));
            }
            kitchen.want(&["a"]);
            kitchen.reads(found(metadata("a", 1), "one"));
            kitchen.hear(Heard::Item(metadata("b", 1)));
            kitchen.hear(Heard::Listed(20));
            kitchen.asked().len()
        };
        assert_eq!(listed_after(true), 0);
        assert_eq!(listed_after(false), 1, "the list may be newer than what was read, and have it no more");
    }

    #[test]
    fn one_that_is_missing_is_read_when_it_comes() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        assert_eq!(kitchen.reads(Outcome::Missing), Some(Urgency::Usual));
        assert_eq!((kitchen.pantry.unread(), kitchen.held().len()), (0, 0));
        kitchen.hear(Heard::Applied(11, metadata("a", 11)));
        assert_eq!(kitchen.reads(found(metadata("a", 11), "one")), Some(Urgency::Usual));
    }

    #[test]
    fn a_change_during_a_read_is_read_after_it() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        kitchen.reads(found(metadata("a", 1), "one"));
        kitchen.hear(Heard::Applied(11, metadata("a", 11)));
        let (id, ticket) = kitchen.asked().remove(0);
        kitchen.hear(Heard::Applied(12, metadata("a", 12)));
        assert_eq!(kitchen.asked(), [], "one read at a time");
        kitchen.pantry.read(&id, ticket, found(metadata("a", 11), "two"), kitchen.now);
        assert_eq!(kitchen.reads(found(metadata("a", 12), "three")), Some(Urgency::Usual));
        assert_eq!(kitchen.pantry.read(&id, ticket, found(metadata("a", 11), "two"), kitchen.now), None);
        assert_eq!(kitchen.held(), ["three"]);
    }

    #[test]
    fn the_position_is_not_newer_than_what_is_still_to_be_read() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        kitchen.reads(found(metadata("a", 1), "one"));
        assert_eq!(kitchen.version(), 10);
        kitchen.hear(Heard::Applied(15, metadata("a", 15)));
        kitchen.hear(Heard::Bookmark(30));
        assert_eq!(kitchen.version(), 14);
        let (id, ticket) = kitchen.asked().remove(0);
        assert_eq!(kitchen.version(), 14);
        kitchen.pantry.read(&id, ticket, found(metadata("a", 15), "two"), kitchen.now);
        assert_eq!(kitchen.version(), 30);
    }

    #[test]
    fn what_may_not_be_read_counts_as_read_and_is_tried_again() {
        let mut kitchen = Kitchen::wanting(&["a"]);
        assert_eq!(kitchen.reads(Outcome::Refused), Some(Urgency::Usual));
        assert_eq!((kitchen.pantry.unread(), kitchen.held().len()), (0, 0));
        kitchen.now += Duration::from_secs(5);
        assert_eq!(kitchen.reads(found(metadata("a", 1), "one")), Some(Urgency::Usual));
    }

    fn many() -> Vec<String> {
        (0..MANY).map(|n| format!("minted-{n:02}")).collect()
    }

    fn wanting_labelled(names: &[String]) -> Kitchen {
        let mut kitchen = Kitchen::wanting(&[]);
        let all: BTreeSet<ObjectRef> = names.iter().map(|name| id(name)).collect();
        kitchen.pantry.want(&Wanted { labelled: all.clone(), all }, kitchen.now);
        kitchen
    }

    #[test]
    fn many_that_have_the_label_are_read_by_one_list_and_what_it_lacks_by_name() {
        let mut names = many();
        let mut kitchen = wanting_labelled(&names);
        let listings = kitchen.pantry.ask_listings(4, kitchen.now);
        let [listing] = &listings[..] else { panic!("{listings:?}") };
        assert_eq!((listing.scope.as_str(), listing.asked.len()), ("", MANY));
        assert_eq!(kitchen.asked(), [], "none of them is read by name meanwhile");

        let mut left = listing.asked.clone();
        let lost = names.pop().unwrap();
        for name in &names {
            let ticket = left.remove(&id(name)).unwrap();
            kitchen.pantry.read(&id(name), ticket, found(metadata(name, 1), "listed"), kitchen.now);
        }
        assert_eq!((kitchen.held().len(), kitchen.pantry.unread()), (MANY - 1, 1));
        kitchen.pantry.give_back(&left);
        assert!(kitchen.pantry.ask_listings(4, kitchen.now).is_empty(), "one list is enough");
        let asked: Vec<_> = kitchen.asked().into_iter().map(|(id, _)| id.name).collect();
        assert_eq!(asked, [lost]);
    }

    #[test]
    fn few_that_have_the_label_are_read_by_name() {
        let mut kitchen = wanting_labelled(&many()[1..]);
        assert!(kitchen.pantry.ask_listings(4, kitchen.now).is_empty());
        assert_eq!(kitchen.asked().len(), MANY - 1);
    }

    #[test]
    fn a_change_while_a_list_is_read_is_read_after_it() {
        let mut kitchen = wanting_labelled(&many());
        let listing = kitchen.pantry.ask_listings(4, kitchen.now).remove(0);
        kitchen.hear(Heard::Applied(11, metadata("minted-00", 11)));
        let (first, ticket) = listing.asked.first_key_value().unwrap();
        kitchen.pantry.read(first, *ticket, found(metadata("minted-00", 1), "old"), kitchen.now);
        assert_eq!(kitchen.reads(found(metadata("minted-00", 11), "new")), Some(Urgency::Usual));
        assert_eq!(kitchen.held(), ["new"]);
    }

    #[test]
    fn that_it_is_somebody_elses_from_now_on_is_urgent() {
        let key: RelayKey = serde_json::from_value(serde_json::json!({
            "apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "metadata": {"name": "k", "uid": "u"},
            "spec": {"policyRefs": []},
        }))
        .unwrap();
        let ours = |version| {
            let owner = serde_json::json!({
                "labels": {"llmrelay.io/managed": "true"},
                "ownerReferences": [
                    {"apiVersion": "llmrelay.io/v1alpha1", "kind": "RelayKey", "name": "k", "uid": "u"}
                ],
            });
            let said: ObjectMeta = serde_json::from_value(owner).unwrap();
            ObjectMeta { labels: said.labels, owner_references: said.owner_references, ..metadata("a", version) }
        };
        let mut kitchen = Kitchen::wanting(&["a"]);
        assert_eq!(kitchen.pantry.is_made_for(&id("a"), &key), None);
        kitchen.reads(found(ours(1), "token"));
        assert_eq!(kitchen.pantry.is_made_for(&id("a"), &key), Some(true));
        kitchen.hear(Heard::Applied(11, metadata("a", 11)));
        assert_eq!(kitchen.reads(found(metadata("a", 11), "token")), Some(Urgency::Urgent));
        assert_eq!(kitchen.pantry.is_made_for(&id("a"), &key), Some(false));
        kitchen.hear(Heard::Applied(12, ours(12)));
        kitchen.reads(found(ours(12), "token"));
        assert_eq!(kitchen.pantry.is_made_for(&id("a"), &key), Some(true));
    }
}
