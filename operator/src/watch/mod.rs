//! What is watched: Relay's own kinds and namespaces whole, Secrets and ConfigMaps by their metadata alone.

pub(crate) mod doubts;
mod fetch;
mod follow;
pub(crate) mod kept;
pub(crate) mod names;
pub(crate) mod pantry;
pub(crate) mod shelf;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject, PartialObjectMeta},
};
use serde::de::DeserializeOwned;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use follow::Heard;

use self::{fetch::Fetched, follow::follow, kept::Kept};
use crate::world::{Pantries, Shelves, World, title};

/// Starts to watch for a world, until `stop`.
pub fn start(client: &Client, world: &Arc<World>, tasks: &TaskTracker, stop: &CancellationToken) {
    let watching = Watching { client, world, tasks, stop };
    watching.kind(|world| &world.hosts);
    watching.kind(|world| &world.models);
    watching.kind(|world| &world.host_keys);
    watching.kind(|world| &world.relay_keys);
    watching.kind(|world| &world.policies);
    watching.kind(|world| &world.data_planes);
    watching.named::<Secret>(|world| &world.secrets);
    watching.named::<ConfigMap>(|world| &world.config_maps);
    watching.namespaces();
}

struct Watching<'a> {
    client: &'a Client,
    world: &'a Arc<World>,
    tasks: &'a TaskTracker,
    stop: &'a CancellationToken,
}

impl Watching<'_> {
    /// One of our kinds, as objects that are read only once they are here: a watch that reads them itself ends at the
    /// first that cannot be read.
    fn kind<T>(&self, shelves: fn(&World) -> &Shelves<T>)
    where
        T: Kept<Raw = DynamicObject> + Resource<DynamicType = ()>,
    {
        let resource = ApiResource::erase::<T>(&());
        for scope in shelves(self.world).scopes() {
            let client = self.client.clone();
            let api: Api<DynamicObject> = if scope.is_empty() {
                Api::all_with(client, &resource)
            } else {
                Api::namespaced_with(client, scope, &resource)
            };
            self.shelf(api, scope, shelves);
        }
    }

    fn namespaces(&self) {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        self.shelf(api, "", |world| &world.namespaces);
    }

    fn shelf<T, K>(&self, api: Api<K>, scope: &str, shelves: fn(&World) -> &Shelves<T>)
    where
        T: Kept<Raw = K>,
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let (world, scope, stop) = (self.world.clone(), scope.to_owned(), self.stop.clone());
        self.tasks.spawn(async move {
            let name = title(shelves(&world).name, &scope);
            let hear = |heard| world.hear(shelves(&world), &scope, heard);
            let doubt = world.doubts().of(&name);
            stop.run_until_cancelled(follow(&name, api, &doubt, hear)).await;
        });
    }

    /// Metadata of all, and the data of those that are named.
    fn named<K: Fetched>(&self, pantries: fn(&World) -> &Pantries<K::Data>) {
        for scope in pantries(self.world).scopes() {
            let client = self.client.clone();
            let api: Api<PartialObjectMeta<K>> =
                if scope.is_empty() { Api::all(client) } else { Api::namespaced(client, &scope) };
            let (world, stop) = (self.world.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                let pantries = pantries(&world);
                let name = title(pantries.name, &scope);
                let hear = |heard| world.hear_metadata(pantries, &scope, heard);
                let doubt = world.doubts().of(&name);
                stop.run_until_cancelled(follow(&name, api, &doubt, hear)).await;
            });
        }
        let (client, world, stop) = (self.client.clone(), self.world.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(fetch::run::<K>(client, &world, pantries)).await;
        });
    }
}
