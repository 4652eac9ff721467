//! Writes one status: server-side apply on the status subresource, as one field manager, and only onto the version of the
//! object that was looked at. So a replica that is behind, or that only thinks that it leads, overwrites nothing newer.

use crds::Kind;
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    FIELD_MANAGER,
    plan::{Base, Seen, Subject, Verdict, base, verdict},
    said::says_the_same,
};
use crate::lease::Standing;

/// How often a change that another made at the same moment is met before a later round has to do.
const TRIES: usize = 4;

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// The status now says this, and said that before.
    Done {
        /// What it said before.
        before: Base,
        /// What it says now.
        after: Base,
    },
    /// It said so already.
    Same(Base),
    /// The object is gone, or another has its name.
    Gone,
    /// The object is newer than what was to be said of it: that is said when it was compiled.
    Stale,
    /// Somebody else wrote another status meanwhile: what is to be said is thought over first.
    Contended,
    /// This replica does not lead.
    NotLeading,
    /// The API server refused it, or could not be reached.
    Failed(Box<kube::Error>),
}

/// How the API server knows a kind.
pub fn resource(kind: Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(crds::GROUP, crds::VERSION, kind.as_str());
    ApiResource::from_gvk_with_plural(&gvk, kind.plural())
}

/// Writes the status of `subject`, which was last seen as `seen`, unless it says so already.
pub async fn write(client: &Client, subject: &Subject, seen: Seen, standing: &watch::Receiver<Standing>) -> Written {
    match tried(client, subject, seen, standing).await {
        Ok(written) => written,
        Err(error) => Written::Failed(Box::new(error)),
    }
}

async fn tried(
    client: &Client,
    subject: &Subject,
    seen: Seen,
    standing: &watch::Receiver<Standing>,
) -> Result<Written, kube::Error> {
    let kind = resource(subject.kind);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &subject.id.namespace, &kind);
    let uid = seen.as_ref().map(|base| base.uid.clone());
    let mut before = match seen {
        Some(base) => base,
        None => match api.get_opt(&subject.id.name).await? {
            Some(object) => base_of(&object),
            None => return Ok(Written::Gone),
        },
    };
    for _ in 0..TRIES {
        if uid.as_ref().is_some_and(|uid| *uid != before.uid) {
            return Ok(Written::Gone);
        }
        let status = match verdict(subject, &before, Timestamp::now()) {
            Verdict::Same => return Ok(Written::Same(before)),
            Verdict::Stale => return Ok(Written::Stale),
            Verdict::Write(status) => status,
        };
        if !standing.borrow().is_leading() {
            return Ok(Written::NotLeading);
        }
        let patch = Patch::Apply(document(subject, &before, &status));
        match api.patch_status(&subject.id.name, &PatchParams::apply(FIELD_MANAGER).force(), &patch).await {
            Ok(object) => return Ok(Written::Done { before, after: base_of(&object) }),
            Err(kube::Error::Api(answer)) if answer.code == 409 => match api.get_opt(&subject.id.name).await? {
                Some(object) => {
                    let fresh = base_of(&object);
                    if fresh.uid == before.uid && !says_the_same(&fresh.status, &before.status) {
                        return Ok(contended(subject, &fresh));
                    }
                    before = fresh;
                }
                None => return Ok(Written::Gone),
            },
            Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(Written::Gone),
            Err(error) => return Err(error),
        }
    }
    Ok(Written::Contended)
}

/// Two leaders at the same moment say the same, as a rule. Where they do not, one of them knows less: neither insists.
fn contended(subject: &Subject, fresh: &Base) -> Written {
    match verdict(subject, fresh, Timestamp::now()) {
        Verdict::Same => Written::Same(fresh.clone()),
        Verdict::Stale => Written::Stale,
        Verdict::Write(_) => Written::Contended,
    }
}

fn document(subject: &Subject, before: &Base, status: &Value) -> Value {
    json!({
        "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
        "kind": subject.kind.as_str(),
        "metadata": {
            "name": subject.id.name, "namespace": subject.id.namespace,
            "uid": before.uid, "resourceVersion": before.version,
        },
        "status": status,
    })
}

fn base_of(object: &DynamicObject) -> Base {
    base(&object.metadata, object.data.get("status").cloned().unwrap_or(Value::Null))
}

/// The newer of two sights of one object; of two objects, the one that was seen last, which is `cached`.
pub fn newer(cached: Base, written: Option<&Base>) -> Base {
    let number = |base: &Base| base.version.parse::<u64>().ok();
    match written {
        Some(written) if written.uid == cached.uid && number(written) > number(&cached) => written.clone(),
        _ => cached,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uid: &str, version: &str) -> Base {
        Base { uid: uid.to_owned(), version: version.to_owned(), ..Base::default() }
    }

    #[test]
    fn what_was_written_counts_until_the_cache_has_it() {
        let written = seen("a", "9");
        assert_eq!(newer(seen("a", "8"), Some(&written)), written);
        assert_eq!(newer(seen("a", "10"), Some(&written)), seen("a", "10"));
        assert_eq!(newer(seen("b", "8"), Some(&written)), seen("b", "8"), "it was made anew");
        assert_eq!(newer(seen("a", "8"), None), seen("a", "8"));
    }
}
