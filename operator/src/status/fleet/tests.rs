use std::sync::Arc;

use table::{Credentials, HostKey};

use super::*;

fn id(name: &str) -> ObjectRef {
    ObjectRef::new("relay", name)
}

mod held {
    use super::*;

    fn held(by: usize, behind: usize, unknown: usize) -> Programmed {
        let pod = PodId::new("relay", "b");
        judge(Held { by, behind, unknown, waiting_for: Some(&pod) }, None, false)
    }

    #[test]
    fn every_pod_counts() {
        let waiting = |by, of| Programmed::Waiting { by, of, for_pod: "relay/b".to_owned() };
        assert_eq!(held(3, 0, 0), Programmed::Everywhere);
        assert_eq!(held(2, 1, 0), waiting(2, 3));
        assert_eq!(held(0, 2, 0), waiting(0, 2));
        assert_eq!(held(2, 0, 1), Programmed::Unsaid(Missing::WordOf("relay/b".to_owned())));
        assert_eq!(held(1, 1, 1), waiting(1, 3));
        assert_eq!(held(0, 0, 0), Programmed::Unsaid(Missing::Pods));
    }
}

/// Fleets with tables of HostKeys, and their pods.
#[derive(Default)]
struct Cluster {
    fleets: BTreeMap<FleetName, (RoutingTable, Ledger)>,
    acks: Acks,
}

impl Cluster {
    /// Serves to a fleet a table with these HostKeys; the second half says whether they can be used there.
    fn serve(&mut self, fleet: &str, root: &str, keys: &[(&str, bool)]) {
        let usable = HostKey {
            host: id("host"),
            weight: 100,
            priority: 0,
            limits: Default::default(),
            models: Default::default(),
            expires_at: None,
            suspended: false,
            allowed: Default::default(),
        };
        let row = |is_usable: bool| match is_usable {
            true => Row::Usable(usable.clone()),
            false => Row::Invalid { reason: "its Host is missing".to_owned() },
        };
        let keys = keys.iter().map(|(name, is_usable)| (id(name), row(*is_usable))).collect();
        let (table, ledger) = self.fleets.entry(Some(id(fleet))).or_default();
        *table = RoutingTable { host_keys: keys, ..RoutingTable::default() };
        ledger.publish(root, Arc::new(table.clone()), Arc::new(Credentials::default()));
    }

    fn pod(&mut self, name: &str, fleet: &str, root: &str) -> &mut PodState {
        let state = PodState { fleet: Some(id(fleet)), root: Some(root.to_owned()), ..PodState::default() };
        let known = self.acks.pods.entry(PodId::new("relay", name)).or_default();
        *known = state;
        known
    }

    fn key(&self, name: &str) -> Programmed {
        let mut by_name = BTreeMap::new();
        for (name, (table, ledger)) in &self.fleets {
            let served = Served { table, ledger, is_deserted: false };
            by_name.insert(name, Fleet::new(name, &self.acks, served));
        }
        Fleets { by_name, is_gathering: false }.programmed(Kind::HostKey, &id(name))
    }
}

fn waiting(by: usize, of: usize, pod: &str) -> Programmed {
    Programmed::Waiting { by, of, for_pod: format!("relay/{pod}") }
}

#[test]
fn only_the_fleets_that_an_object_goes_to_are_asked() {
    let mut cluster = Cluster::default();
    cluster.serve("a", "a1", &[("both", true)]);
    cluster.serve("b", "b1", &[("both", true)]);
    cluster.pod("in-a", "a", "a1");
    cluster.pod("in-b", "b", "b1");
    cluster.serve("b", "b2", &[("both", true), ("only-b", true)]);
    assert_eq!(cluster.key("both"), Programmed::Everywhere);
    assert_eq!(cluster.key("only-b"), waiting(0, 1, "in-b"));
    cluster.pod("in-b", "b", "b2");
    assert_eq!(cluster.key("only-b"), Programmed::Everywhere);
    assert_eq!(cluster.key("neither"), Programmed::Unselected);
}

#[test]
fn an_object_that_goes_to_a_fleet_again_is_not_in_effect_there_because_it_is_elsewhere() {
    let mut cluster = Cluster::default();
    cluster.serve("a", "a1", &[("x", true)]);
    cluster.serve("b", "b1", &[]);
    cluster.pod("in-a", "a", "a1");
    cluster.pod("in-b", "b", "b1");
    assert_eq!(cluster.key("x"), Programmed::Everywhere);
    cluster.serve("b", "b2", &[("x", true)]);
    assert_eq!(cluster.key("x"), waiting(1, 2, "in-b"));
}

#[test]
fn an_object_that_misses_something_in_every_fleet_says_what() {
    let mut cluster = Cluster::default();
    cluster.serve("a", "a1", &[("x", false)]);
    let why = "its Host is missing".to_owned();
    assert_eq!(cluster.key("x"), Programmed::UnusableIn { data_plane: "relay/a".to_owned(), why });
    cluster.serve("b", "b1", &[("x", true)]);
    cluster.pod("in-b", "b", "b1");
    assert_eq!(cluster.key("x"), Programmed::Everywhere, "where it can be used it is in effect");
}

#[test]
fn a_pod_that_left_a_moment_ago_is_missed_only_where_it_was_behind_or_refused() {
    let mut cluster = Cluster::default();
    cluster.serve("a", "a1", &[("x", true)]);
    cluster.pod("stays", "a", "a1");
    cluster.pod("moves", "a", "a1").is_away = true;
    assert_eq!(cluster.key("x"), Programmed::Everywhere);
    cluster.serve("a", "a2", &[("x", true), ("y", true)]);
    cluster.pod("stays", "a", "a2");
    let missed = Programmed::Unsaid(Missing::WordOf("relay/moves".to_owned()));
    assert_eq!((cluster.key("x"), cluster.key("y")), (Programmed::Everywhere, missed.clone()));
    let nack = Nack { kind: Kind::HostKey, id: id("x"), code: "Bad".to_owned(), message: "no".to_owned() };
    cluster.pod("moves", "a", "a1").nacks = vec![nack];
    assert_eq!(
        cluster.key("x"),
        Programmed::Nacked { pod: "relay/moves".to_owned(), code: "Bad".to_owned(), message: "no".to_owned() }
    );
    cluster.acks.pods.get_mut(&PodId::new("relay", "moves")).unwrap().is_away = true;
    assert_eq!(cluster.key("x"), missed, "what was said stands");
}

#[test]
fn a_pod_that_has_not_answered_since_it_came_is_not_counted_on_and_one_that_goes_is_not_waited_for() {
    let mut cluster = Cluster::default();
    cluster.serve("a", "a1", &[("x", true)]);
    cluster.pod("new", "a", "a1").is_silent = true;
    assert_eq!(cluster.key("x"), Programmed::Unsaid(Missing::WordOf("relay/new".to_owned())));
    cluster.pod("new", "a", "a1");
    cluster.pod("old", "a", "a0").is_draining = true;
    assert_eq!(cluster.key("x"), Programmed::Everywhere);
}
