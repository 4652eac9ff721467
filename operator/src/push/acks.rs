//! What data planes hold, from the streams of this replica, in the words of statuses.

use std::sync::Arc;

use crds::Kind;
use feed::{fleet::Pod, publisher::Publisher, rows, wire::Rejection};
use futures::future::select_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fleets::Fleets;
use crate::status::fleet::{Acks, Nack, PodId, PodState};

/// Says what pods hold whenever that changed, until `stop`.
pub(super) async fn report(fleets: Fleets, told: watch::Sender<Arc<Acks>>, stop: CancellationToken) {
    let mut own = fleets.follow();
    loop {
        let publishers: Vec<Publisher> = own.borrow_and_update().values().cloned().collect();
        let publishers = [fleets.whole().clone()].into_iter().chain(publishers);
        let mut changes = Vec::new();
        let mut now = Acks::default();
        for publisher in publishers {
            // Subscribed before it is asked, so that no change falls between.
            changes.push(publisher.fleet().changes());
            now.pods.extend(acks(&publisher.fleet().pods(), |root| fleets.whole_of(root)).pods);
        }
        told.send_if_modified(|before| {
            let is_new = **before != now;
            if is_new {
                *before = Arc::new(now);
            }
            is_new
        });
        let any = select_all(changes.iter_mut().map(|changes| Box::pin(changes.changed())));
        tokio::select! {
            () = stop.cancelled() => break,
            changed = own.changed() => if changed.is_err() { break },
            (changed, ..) = any => if changed.is_err() { break },
        }
    }
}

/// What these pods hold. The root of a fleet's table is told as that of the whole that it is a part of.
pub fn acks(pods: &[Pod], whole_of: impl Fn(&str) -> Option<String>) -> Acks {
    let root = |pod: &Pod| {
        let root = pod.root?.to_string();
        Some(whole_of(&root).unwrap_or(root))
    };
    let state = |pod: &Pod| PodState {
        root: root(pod),
        revision: pod.revision,
        nacks: pod.rejections.iter().filter_map(nack).collect(),
    };
    Acks { pods: pods.iter().map(|pod| (PodId::new(&pod.namespace, &pod.name), state(pod))).collect() }
}

/// The object whose entry was not taken; absent where the entry is of none.
fn nack(rejection: &Rejection) -> Option<Nack> {
    let kind = match rows::Kind::of(rejection.table)? {
        rows::Kind::Settings => return None,
        rows::Kind::Hosts | rows::Kind::ClientCertificates => Kind::Host,
        rows::Kind::Models => Kind::Model,
        rows::Kind::HostKeys | rows::Kind::Credentials => Kind::HostKey,
        rows::Kind::RelayKeys => Kind::RelayKey,
        rows::Kind::Policies => Kind::Policy,
    };
    let id = rejection.key.parse().ok()?;
    Some(Nack { kind, id, code: rejection.code.clone(), message: rejection.message.clone() })
}

#[cfg(test)]
mod tests {
    use table::ObjectRef;

    use super::*;

    fn rejection(table: rows::Kind, key: &str) -> Rejection {
        Rejection { table: table.number(), key: key.into(), code: "Bad".into(), message: "is bad".into() }
    }

    #[test]
    fn a_row_that_was_not_taken_is_told_of_its_object() {
        let told = nack(&rejection(rows::Kind::Credentials, "team/main")).unwrap();
        let id = ObjectRef::new("team", "main");
        assert_eq!(told, Nack { kind: Kind::HostKey, id, code: "Bad".into(), message: "is bad".into() });
        assert_eq!(nack(&rejection(rows::Kind::Settings, rows::SETTINGS_KEY)), None);
    }
}
