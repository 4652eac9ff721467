//! Secrets that manifests name and a repository rightly does not hold: somebody puts them into the cluster.

use std::{collections::BTreeMap, sync::Arc};

use compiler::Resources;
use table::{ObjectRef, Secret};

/// Takes every Secret with a credential or a token that objects name, and that is not there, as one that is; says which.
/// One that is there is as it is. Certificates are not made up: they have to be readable.
pub(crate) fn suppose(resources: &mut Resources) -> Vec<ObjectRef> {
    let mut named: BTreeMap<ObjectRef, Vec<String>> = BTreeMap::new();
    for (id, name, key) in names(resources) {
        let secret = ObjectRef::new(&id.namespace, name);
        if !resources.secrets.contains_key(&secret) {
            named.entry(secret).or_default().push(key.to_owned());
        }
    }
    for (id, keys) in &named {
        // Every value is another one, and long enough for a token: equal tokens would be a conflict.
        let value = |key: &str| Secret::new(format!("supposed value of {key} in {id}, not read").into_bytes());
        let data = keys.iter().map(|key| (key.clone(), value(key)));
        resources.secrets.insert(id.clone(), Arc::new(data.collect()));
    }
    named.into_keys().collect()
}

/// Who names which Secret, and which of its keys.
fn names(resources: &Resources) -> impl Iterator<Item = (&ObjectRef, &str, &str)> {
    let sources = resources.host_keys.iter().map(|(id, key)| (id, key.spec.source.secret_key_ref.as_ref()));
    let brought = resources.relay_keys.iter().map(|(id, key)| (id, key.spec.token_secret_ref.as_ref()));
    let named = sources.chain(brought).filter_map(|(id, named)| named.map(|named| (id, &*named.name, &*named.key)));
    let made = resources.relay_keys.iter().filter_map(|(id, key)| {
        let made = key.spec.secret.as_ref()?;
        Some((id, &*made.name, made.key.as_deref().unwrap_or("token")))
    });
    named.chain(made)
}
