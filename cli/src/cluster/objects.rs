//! Objects of our kinds as the API server has them, before anybody reads their spec: one that cannot be read must not hide
//! the others.

use crds::{GROUP, Kind, VERSION};
use kube::{
    Api,
    api::ListParams,
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;
use table::ObjectRef;

use super::{Cluster, Doing, Fault};

/// How many objects are asked for at once, as kubectl does it.
const PAGE: u32 = 500;

/// Where objects are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within<'a> {
    /// Everywhere.
    All,
    /// In one namespace.
    Namespace(&'a str),
}

impl<'a> Within<'a> {
    pub(crate) fn namespace(self) -> Option<&'a str> {
        match self {
            Self::All => None,
            Self::Namespace(name) => Some(name),
        }
    }
}

impl Cluster {
    /// The objects of one of our kinds.
    pub(crate) fn api(&self, kind: Kind, within: Within<'_>) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: VERSION.to_owned(),
            api_version: format!("{GROUP}/{VERSION}"),
            kind: kind.as_str().to_owned(),
            plural: kind.plural().to_owned(),
        };
        match within {
            Within::All => Api::all_with(self.client.clone(), &resource),
            Within::Namespace(name) => Api::namespaced_with(self.client.clone(), name, &resource),
        }
    }

    /// All objects of a kind, sorted by namespace and name.
    pub(crate) async fn list(&self, kind: Kind, within: Within<'_>) -> Result<Vec<DynamicObject>, Fault> {
        let doing = Doing::of("list", kind, within.namespace(), None);
        let mut objects = self.list_of(doing, &self.api(kind, within), ListParams::default()).await?;
        objects.sort_by_key(id);
        Ok(objects)
    }

    /// All objects that an API has, page by page.
    pub(crate) async fn list_of<K: Clone + DeserializeOwned + std::fmt::Debug>(
        &self,
        doing: Doing<'_>,
        api: &Api<K>,
        params: ListParams,
    ) -> Result<Vec<K>, Fault> {
        let mut params = params.limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = self.ask(doing.clone(), api.list(&params)).await?;
            all.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// One object.
    pub(crate) async fn get(&self, kind: Kind, id: &ObjectRef) -> Result<DynamicObject, Fault> {
        let doing = Doing::of("get", kind, Some(&id.namespace), Some(&id.name));
        let api = self.api(kind, Within::Namespace(&id.namespace));
        self.ask(doing, api.get(&id.name)).await
    }
}

/// Where an object is.
pub(crate) fn id(object: &DynamicObject) -> ObjectRef {
    let metadata = &object.metadata;
    ObjectRef::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
