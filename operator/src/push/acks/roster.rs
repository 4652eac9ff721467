//! Remembers for a while the pods that were there: one that goes to another replica is gone for a moment only, and nothing
//! is said of objects because of that.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::status::fleet::{Acks, PodId, PodState};

/// How long a pod is remembered that is connected to no replica. Data planes come back within a second or two, and so does
/// what a follower tells; one whose process was killed takes longer and is new then.
const LINGER: Duration = Duration::from_secs(10);

/// Pods that are there or were there lately.
#[derive(Debug, Default)]
pub(super) struct Roster {
    pods: BTreeMap<PodId, Known>,
}

#[derive(Debug)]
struct Known {
    state: PodState,
    /// Until when it is remembered; absent: it is there.
    until: Option<Instant>,
}

impl Roster {
    /// Takes note of who is there. Gives these, and those who were there lately. One that said that it is shutting down is
    /// not waited for.
    pub(super) fn note(&mut self, pods: Vec<(PodId, PodState)>, now: Instant) -> Acks {
        for known in self.pods.values_mut().filter(|known| known.until.is_none()) {
            known.until = Some(now + LINGER);
            known.state.is_away = true;
        }
        for (id, state) in pods {
            self.pods.insert(id, Known { state, until: None });
        }
        self.pods.retain(|_, known| known.until.is_none_or(|until| now < until && !known.state.is_draining));
        Acks { pods: self.pods.iter().map(|(id, known)| (id.clone(), known.state.clone())).collect() }
    }

    /// When the next pod is forgotten.
    pub(super) fn next(&self) -> Option<Instant> {
        self.pods.values().filter_map(|known| known.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, is_draining: bool) -> (PodId, PodState) {
        (PodId::new("relay", name), PodState { is_draining, ..PodState::default() })
    }

    fn told(acks: &Acks) -> Vec<(&str, bool)> {
        acks.pods.iter().map(|(id, state)| (id.name.as_str(), state.is_away)).collect()
    }

    #[test]
    fn a_pod_that_left_is_remembered_for_a_while_and_then_forgotten() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        roster.note(vec![pod("a", false), pod("b", false)], start);
        let left = start + Duration::from_secs(1);
        assert_eq!(told(&roster.note(vec![pod("a", false)], left)), [("a", false), ("b", true)]);
        assert_eq!(roster.next(), Some(left + LINGER));
        assert_eq!(told(&roster.note(vec![pod("a", false)], left + LINGER / 2)), [("a", false), ("b", true)]);
        assert_eq!(told(&roster.note(vec![pod("a", false)], left + LINGER)), [("a", false)]);
        assert_eq!(roster.next(), None);
    }

    #[test]
    fn a_pod_that_comes_back_was_never_away() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        roster.note(vec![pod("a", false)], start);
        roster.note(Vec::new(), start);
        assert_eq!(told(&roster.note(vec![pod("a", false)], start + LINGER / 2)), [("a", false)]);
        assert_eq!(told(&roster.note(vec![pod("a", false)], start + 2 * LINGER)), [("a", false)]);
    }

    #[test]
    fn a_pod_that_shuts_down_is_not_waited_for() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        roster.note(vec![pod("a", true)], start);
        assert_eq!(told(&roster.note(Vec::new(), start)), []);
    }
}
