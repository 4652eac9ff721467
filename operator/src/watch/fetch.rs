//! Reads the Secrets and ConfigMaps that are due, by name, a few at a time; and many that Relay made, by lists of these.

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Error, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use table::ObjectRef;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::{
    mint::MANAGED,
    watch::{
        follow::words,
        pantry::{Listing, Outcome, Ticket},
    },
    world::{Pantries, World},
};

/// How many are read at once: enough for thousands in seconds, few enough for the API server's fairness.
const AT_ONCE: usize = 16;
/// How many lists are asked for at once.
const LISTS: usize = 4;
/// How long one read may take.
const READ: Duration = Duration::from_secs(10);
/// Objects of one answer to a list. Whoever may write Secrets may fill them, to a MiB each, and fake the label.
const PAGE: u32 = 100;

/// A kind whose objects are read by name.
pub(crate) trait Fetched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
    /// What is kept of one.
    type Data: PartialEq + Send + Sync;

    /// Takes one apart.
    fn parts(self) -> (ObjectMeta, Self::Data);
}

impl Fetched for Secret {
    type Data = BTreeMap<String, table::Secret<Vec<u8>>>;

    fn parts(self) -> (ObjectMeta, Self::Data) {
        let data = self.data.unwrap_or_default().into_iter();
        (self.metadata, data.map(|(key, value)| (key, table::Secret::new(value.0))).collect())
    }
}

impl Fetched for ConfigMap {
    type Data = BTreeMap<String, String>;

    fn parts(self) -> (ObjectMeta, Self::Data) {
        (self.metadata, self.data.unwrap_or_default())
    }
}

/// Reads what is due until it is dropped.
pub(super) async fn run<K: Fetched>(client: Client, world: &World, pantries: fn(&World) -> &Pantries<K::Data>) {
    let pantries = pantries(world);
    let mut running = FuturesUnordered::new();
    let mut listing = FuturesUnordered::new();
    loop {
        // Lists first: what they bring is not read by name.
        let listings = pantries.ask_listings(LISTS - listing.len());
        listing.extend(listings.into_iter().map(|asked| list::<K>(&client, world, pantries, asked)));
        let (asked, next) = pantries.ask(AT_ONCE - running.len());
        for (id, ticket) in asked {
            let client = client.clone();
            running.push(async move {
                let outcome = read::<K>(client, &id).await;
                (id, ticket, outcome)
            });
        }
        let full = running.len() == AT_ONCE;
        tokio::select! {
            Some((id, ticket, outcome)) = running.next() => world.read(pantries, &id, ticket, outcome),
            Some(()) = listing.next() => {}
            () = pantries.due(), if !full => {}
            () = sleep_until(next.unwrap_or_else(Instant::now)), if !full && next.is_some() => {}
        }
    }
}

/// Reads what has the label of what Relay made, page by page. What was not asked for is forgotten at once; what does not
/// come is given back.
async fn list<K: Fetched>(client: &Client, world: &World, pantries: &Pantries<K::Data>, listing: Listing) {
    let Listing { scope, mut asked } = listing;
    let client = client.clone();
    let api: Api<K> = if scope.is_empty() { Api::all(client) } else { Api::namespaced(client, &scope) };
    if let Err(reason) = pages(&api, |object| take(world, pantries, &mut asked, object)).await {
        let (kind, left) = (K::kind(&()), asked.len());
        warn!("{kind} objects of Relay's could not be listed, and {left} are read by name: {reason}");
    }
    pantries.give_back(&asked);
}

fn take<K: Fetched>(world: &World, pantries: &Pantries<K::Data>, asked: &mut BTreeMap<ObjectRef, Ticket>, object: K) {
    let (metadata, data) = object.parts();
    let Some(name) = &metadata.name else { return };
    let id = ObjectRef::new(metadata.namespace.clone().unwrap_or_default(), name);
    if let Some(ticket) = asked.remove(&id) {
        world.read(pantries, &id, ticket, Outcome::Found(Box::new(metadata), data));
    }
}

async fn pages<K: Fetched>(api: &Api<K>, mut take: impl FnMut(K)) -> Result<(), String> {
    let mut page = ListParams::default().labels(&format!("{MANAGED}=true")).limit(PAGE);
    loop {
        let answer = match timeout(READ, api.list(&page)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(Error::SerdeError(_))) => return Err("the answer cannot be read".to_owned()),
            Ok(Err(error)) => return Err(words(&error)),
            Err(_) => return Err(format!("no answer within {} s", READ.as_secs())),
        };
        answer.items.into_iter().for_each(&mut take);
        match answer.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

async fn read<K: Fetched>(client: Client, id: &ObjectRef) -> Outcome<K::Data> {
    let api: Api<K> = Api::namespaced(client, &id.namespace);
    let kind = K::kind(&());
    let reason = match timeout(READ, api.get(&id.name)).await {
        Ok(Ok(object)) => {
            let (metadata, data) = object.parts();
            return Outcome::Found(Box::new(metadata), data);
        }
        Ok(Err(Error::Api(status))) if status.code == 404 => return Outcome::Missing,
        Ok(Err(Error::Api(status))) if status.code == 403 => {
            warn!("{kind} `{id}` may not be read: {}", status.message);
            return Outcome::Refused;
        }
        // An answer that cannot be read may hold the Secret itself.
        Ok(Err(Error::SerdeError(_))) => "the answer cannot be read".to_owned(),
        Ok(Err(error)) => words(&error),
        Err(_) => format!("no answer within {} s", READ.as_secs()),
    };
    warn!("{kind} `{id}` could not be read, and what was read of it before stays in effect: {reason}");
    Outcome::Failed
}
