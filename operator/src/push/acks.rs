//! What data planes hold, from the streams of this replica, in the words of statuses.

use std::sync::Arc;

use crds::Kind;
use feed::{fleet::Pod, publisher::Publisher, rows, wire::Rejection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::status::fleet::{Acks, Nack, PodId, PodState};

/// Says what pods hold whenever that changed, until `stop`.
pub(super) async fn report(publisher: Publisher, told: watch::Sender<Arc<Acks>>, stop: CancellationToken) {
    let mut changes = publisher.fleet().changes();
    loop {
        changes.mark_unchanged();
        let acks = acks(&publisher.fleet().pods());
        told.send_if_modified(|before| {
            let is_new = **before != acks;
            if is_new {
                *before = Arc::new(acks);
            }
            is_new
        });
        match stop.run_until_cancelled(changes.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => break,
        }
    }
}

/// What these pods hold.
pub fn acks(pods: &[Pod]) -> Acks {
    let state = |pod: &Pod| PodState {
        root: pod.root.map(|root| root.to_string()),
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
