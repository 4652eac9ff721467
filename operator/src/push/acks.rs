//! What data planes hold, from the streams of this replica and from what others tell of theirs, in the words of statuses.

mod roster;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crds::Kind;
use feed::{
    fleet::Pod,
    gather::Gathered,
    rows,
    wire::{Breaker, BreakerState, Rejection},
};
use futures::future::select_all;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use self::roster::Roster;
use super::fleets::{Fleets, data_plane};
use crate::status::fleet::{Acks, Nack, Out, PodId, PodState};

/// Changes within this time are told as one: of a thousand acknowledgements of one change, each alone would have all
/// thousand pods looked at.
const QUIET: Duration = Duration::from_millis(25);

/// Longest wait, where nothing is due.
const LONG: Duration = Duration::from_secs(3600);

/// Says what pods hold whenever that changed, until `stop`.
pub(super) async fn report(
    fleets: Fleets,
    gathered: Gathered,
    told: watch::Sender<Arc<Acks>>,
    stop: CancellationToken,
) {
    let (mut served, mut others, mut roster) = (fleets.served(), gathered.changes(), Roster::default());
    loop {
        let publishers = served.borrow_and_update().clone();
        others.borrow_and_update();
        // Subscribed before they are asked, so that no change falls between.
        let mut changes: Vec<_> = publishers.values().map(|publisher| publisher.fleet().changes()).collect();
        let own = publishers.iter().flat_map(|(fleet, publisher)| {
            let pods = publisher.fleet().pods().into_iter();
            pods.map(|pod| (fleet.clone(), pod))
        });
        let pods = gathered.pods(own.collect()).into_iter().map(|(fleet, pod)| entry(&fleet, pod));
        let now = roster.note(pods.collect(), Instant::now());
        told.send_if_modified(|before| {
            let is_new = **before != now;
            if is_new {
                *before = Arc::new(now);
            }
            is_new
        });
        let pause = roster.next().map_or(LONG, |at| at.saturating_duration_since(Instant::now()));
        let any = select_all(changes.iter_mut().map(|changes| Box::pin(changes.changed())));
        tokio::select! {
            () = stop.cancelled() => break,
            changed = served.changed() => if changed.is_err() { break },
            changed = others.changed() => if changed.is_err() { break },
            (changed, ..) = any => if changed.is_err() { break },
            () = sleep(pause) => {}
        }
        if stop.run_until_cancelled(sleep(QUIET)).await.is_none() {
            break;
        }
    }
}

/// What one pod of a fleet holds.
fn entry(fleet: &str, pod: Pod) -> (PodId, PodState) {
    let id = PodId::new(&pod.namespace, &pod.name);
    let breakers = pod.report.breakers.iter().filter_map(out).collect();
    let state = PodState {
        fleet: data_plane(fleet),
        root: pod.root.map(|root| root.to_string()),
        revision: pod.revision,
        is_silent: pod.revision == 0 && pod.refused.is_none(),
        nacks: pod.rejections.iter().filter_map(nack).collect(),
        refused: pod.refused.map(|(_, _, message)| message),
        out: breakers,
        build: pod.build,
        is_restored: pod.restored,
        is_draining: pod.report.draining,
        is_away: false,
    };
    (id, state)
}

/// A host key that a pod does not draw.
fn out(breaker: &Breaker) -> Option<Out> {
    let until = match breaker.state() {
        BreakerState::Closed => return None,
        BreakerState::HalfOpen => None,
        BreakerState::Open => i64::try_from(breaker.until_ms).ok(),
    };
    let until = until.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    Some(Out { host_key: breaker.host_key.parse().ok()?, class: breaker.reason.clone(), until })
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

    #[test]
    fn a_key_that_is_being_tried_is_still_out() {
        let breaker = |state: BreakerState| Breaker {
            host_key: "team/main".into(),
            state: state.into(),
            reason: "auth".into(),
            until_ms: 1_000,
        };
        let told = |until| Some(Out { host_key: ObjectRef::new("team", "main"), class: "auth".into(), until });
        assert_eq!(out(&breaker(BreakerState::Open)), told(jiff::Timestamp::from_second(1).ok()));
        assert_eq!(out(&breaker(BreakerState::HalfOpen)), told(None));
        assert_eq!(out(&breaker(BreakerState::Closed)), None);
    }
}
