//! Chooses which host keys serve a request, in order: a pure function of what is known of them. An open key is given to
//! nobody while another is left; a key that has just healed gets its share back step by step.

use std::{cmp::Ordering, time::Instant};

use smallvec::SmallVec;
use table::KeySelection;

use crate::{
    breaker::{Phase, outcome::Class},
    upstream::credentials::KeyHash,
};

/// A key that is out of quota still counts as this much, so that it stays comparable.
const HEADROOM_LEAST: f64 = 0.001;

/// A key of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The hash of its secret.
    pub hash: KeyHash,
    /// Lower is tried first.
    pub priority: u32,
    /// Its share among keys of equal priority.
    pub weight: u32,
    /// Why the request cannot use it, whatever its health (suspended, expired, not entitled, ...); absent: it can.
    pub obstacle: Option<&'static str>,
    /// Its health and load.
    pub standing: Standing,
}

/// The health and load of a key at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Where its breaker stands.
    pub phase: Phase,
    /// Requests in flight.
    pub in_flight: u32,
    /// The share of its provider's quota that is left, 0 to 1; absent: not told.
    pub headroom: Option<f64>,
}

/// How to choose.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// By which rule.
    pub selection: KeySelection,
    /// The hash of the conversation that wants to keep its key; absent: it does not matter.
    pub affinity: Option<u64>,
    /// The number of this request in the host's round robin.
    pub turn: u64,
    /// Decides what is left to chance: equal seeds choose alike.
    pub seed: u64,
}

/// The keys by their positions in the pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Order {
    /// To be tried, best first.
    pub ready: Vec<usize>,
    /// To be tried only where no candidate of the request has a key that is ready, best first: half-open ones, then
    /// those whose host failed. Keys that are refused or limited are not among them: the provider has said when to ask.
    pub last_resort: Vec<usize>,
    /// Those that are not ready, and why.
    pub skipped: Vec<(usize, Skip)>,
}

/// Why a key is not ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skip {
    /// The request cannot use it.
    Unfit(&'static str),
    /// Its breaker is open.
    Open {
        /// Why.
        class: Class,
        /// When it is probed; past: a probe is due or on its way.
        until: Instant,
    },
}

impl Order {
    /// When the first of the skipped keys may be back; absent: none will be.
    pub fn earliest(&self) -> Option<Instant> {
        let open = self.skipped.iter().filter_map(|(_, skip)| match skip {
            Skip::Open { until, .. } => Some(*until),
            Skip::Unfit(_) => None,
        });
        open.min()
    }
}

/// Orders the keys of a pool for one request.
pub fn order(members: &[Member], choice: &Choice) -> Order {
    let mut order = Order::default();
    let mut ranked = SmallVec::<[_; 4]>::new();
    let mut resort = Vec::new();
    for (position, member) in members.iter().enumerate() {
        match (member.obstacle, member.standing.phase) {
            (Some(obstacle), _) => order.skipped.push((position, Skip::Unfit(obstacle))),
            (None, Phase::Closed { share }) => ranked.push((position, rank(member, share, choice))),
            (None, Phase::HalfOpen { class, since, .. }) => {
                resort.push(((0_u8, since), position));
                order.skipped.push((position, Skip::Open { class, until: since }));
            }
            (None, Phase::Open { class, until }) => {
                if matches!(class, Class::ServerError | Class::Unreachable) {
                    resort.push(((1, until), position));
                }
                order.skipped.push((position, Skip::Open { class, until }));
            }
        }
    }
    ranked
        .sort_by(|(_, a), (_, b)| a.priority.cmp(&b.priority).then(compare(a.cost, b.cost)).then(a.luck.cmp(&b.luck)));
    order.ready = ranked.into_iter().map(|(position, _)| position).collect();
    rotate(&mut order.ready, members, choice);
    resort.sort_by_key(|(rank, _)| *rank);
    order.last_resort = resort.into_iter().map(|(_, position)| position).collect();
    order
}

struct Rank {
    priority: u32,
    cost: f64,
    luck: u64,
}

fn rank(member: &Member, share: f64, choice: &Choice) -> Rank {
    let luck = mixed(choice.seed, short(member.hash));
    let weight = f64::from(member.weight.max(1));
    let cost = match (choice.selection, choice.affinity) {
        (KeySelection::CacheAffinity, Some(conversation)) => drawn(mixed(conversation, short(member.hash))) / weight,
        (KeySelection::LeastUtilized, _) | (KeySelection::CacheAffinity, None) => {
            let headroom = member.standing.headroom.unwrap_or(1.0).max(HEADROOM_LEAST);
            (f64::from(member.standing.in_flight) + 1.0) / (weight * share * headroom)
        }
        (KeySelection::Weighted, _) => drawn(luck) / (weight * share),
        // Turns are taken in the order of the pool, by those that have all of their share back.
        (KeySelection::RoundRobin, _) => f64::from(u8::from(fraction(luck) > share)),
    };
    let luck = if choice.selection == KeySelection::RoundRobin { 0 } else { luck };
    Rank { priority: member.priority, cost, luck }
}

/// Lets the keys of each priority take turns, where that is the rule; a healed key that sits this turn out stays last.
fn rotate(ready: &mut [usize], members: &[Member], choice: &Choice) {
    if choice.selection != KeySelection::RoundRobin {
        return;
    }
    let is_in = |position: &usize| match members[*position].standing.phase {
        Phase::Closed { share } => fraction(mixed(choice.seed, short(members[*position].hash))) <= share,
        Phase::Open { .. } | Phase::HalfOpen { .. } => false,
    };
    for tier in ready.chunk_by_mut(|a, b| members[*a].priority == members[*b].priority) {
        let taking = tier.iter().take_while(|position| is_in(position)).count() as u64;
        if let Some(by) = choice.turn.checked_rem(taking) {
            tier[..taking as usize].rotate_left(by as usize);
        }
    }
}

fn compare(a: f64, b: f64) -> Ordering {
    a.total_cmp(&b)
}

/// An exponentially distributed draw: the least of several, each divided by its weight, falls to each by its weight.
fn drawn(bits: u64) -> f64 {
    -fraction(bits).ln()
}

/// Above 0, at most 1.
fn fraction(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

fn short(hash: KeyHash) -> u64 {
    let bytes = hash.as_bytes();
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

/// Mixes two numbers well enough that a change in either changes all bits (SplitMix64's finaliser).
fn mixed(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::credentials::HostSecret;

    const WELL: Phase = Phase::Closed { share: 1.0 };

    fn key(name: &str) -> Member {
        Member {
            hash: HostSecret::new(name).unwrap().hash(),
            priority: 0,
            weight: 100,
            obstacle: None,
            standing: Standing { phase: WELL, in_flight: 0, headroom: None },
        }
    }

    impl Member {
        fn phase(mut self, phase: Phase) -> Self {
            self.standing.phase = phase;
            self
        }

        fn busy(mut self, in_flight: u32) -> Self {
            self.standing.in_flight = in_flight;
            self
        }

        fn headroom(mut self, headroom: f64) -> Self {
            self.standing.headroom = Some(headroom);
            self
        }
    }

    fn by(selection: KeySelection) -> Choice {
        Choice { selection, affinity: None, turn: 0, seed: 0 }
    }

    /// How often each key is first over many seeds and turns.
    fn firsts(members: &[Member], choice: Choice) -> Vec<usize> {
        let mut firsts = vec![0; members.len()];
        for seed in 0..10_000 {
            firsts[order(members, &Choice { seed, turn: seed, ..choice }).ready[0]] += 1;
        }
        firsts
    }

    #[test]
    fn the_key_with_most_of_its_quota_left_is_first_and_load_counts_against_it() {
        let members = [key("a").headroom(0.2), key("b").headroom(0.9), key("c").busy(20)];
        assert_eq!(order(&members, &by(KeySelection::LeastUtilized)).ready, [1, 0, 2]);
    }

    #[test]
    fn equal_keys_share_evenly_by_chance() {
        for count in firsts(&[key("a"), key("b"), key("c"), key("d")], by(KeySelection::LeastUtilized)) {
            assert!((2300..2700).contains(&count), "{count}");
        }
    }

    #[test]
    fn weights_are_shares_of_the_traffic() {
        let members = [Member { weight: 300, ..key("a") }, key("b")];
        let firsts = firsts(&members, by(KeySelection::Weighted));
        assert!((7300..7700).contains(&firsts[0]), "{firsts:?}");
    }

    #[test]
    fn keys_take_turns_in_a_round_robin() {
        let members = [key("a"), key("b"), key("c")];
        let turn = |turn| order(&members, &Choice { turn, ..by(KeySelection::RoundRobin) }).ready;
        assert_eq!([turn(0), turn(1), turn(2), turn(3)], [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
    }

    #[test]
    fn a_conversation_keeps_its_key_and_moves_only_when_it_is_out() {
        let mut members = [key("a"), key("b"), key("c"), key("d")];
        let kept = |members: &[Member], conversation| {
            let choice = Choice { affinity: Some(conversation), seed: conversation, ..by(KeySelection::CacheAffinity) };
            order(members, &choice).ready[0]
        };
        let before: Vec<_> = (0..1000).map(|conversation| kept(&members, conversation)).collect();
        members[2].standing.phase = Phase::Open { class: Class::Auth, until: Instant::now() };
        members[0].standing.in_flight = 50;
        for (conversation, before) in before.into_iter().enumerate() {
            let after = kept(&members, conversation as u64);
            assert!(after == before || before == 2, "{conversation}: {before} -> {after}");
        }
    }

    #[test]
    fn a_lower_priority_number_goes_before_any_weight_or_load() {
        let members = [Member { priority: 1, weight: 1000, ..key("a") }, key("b").busy(99)];
        for selection in
            [KeySelection::LeastUtilized, KeySelection::RoundRobin, KeySelection::Weighted, KeySelection::CacheAffinity]
        {
            assert_eq!(order(&members, &by(selection)).ready, [1, 0], "{selection:?}");
        }
    }

    #[test]
    fn keys_that_cannot_serve_are_left_out_with_their_reasons() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let open = |class, until| Phase::Open { class, until };
        let members = [
            Member { obstacle: Some("is suspended"), ..key("a") },
            key("b").phase(open(Class::Auth, later)),
            key("c").phase(open(Class::ServerError, later)),
            key("d").phase(Phase::HalfOpen { class: Class::RateLimit, since: now, probes: 1 }),
            key("e"),
        ];
        let order = order(&members, &by(KeySelection::LeastUtilized));
        let expected = Order {
            ready: vec![4],
            last_resort: vec![3, 2],
            skipped: vec![
                (0, Skip::Unfit("is suspended")),
                (1, Skip::Open { class: Class::Auth, until: later }),
                (2, Skip::Open { class: Class::ServerError, until: later }),
                (3, Skip::Open { class: Class::RateLimit, until: now }),
            ],
        };
        assert_eq!(order, expected);
        assert_eq!(order.earliest(), Some(now));
    }

    #[test]
    fn a_healed_key_gets_its_share_and_no_more() {
        let members = [key("a").phase(Phase::Closed { share: 0.1 }), key("b")];
        for (selection, least, most) in [
            (KeySelection::Weighted, 800, 1000),
            (KeySelection::RoundRobin, 300, 700),
            (KeySelection::LeastUtilized, 0, 0),
        ] {
            let firsts = firsts(&members, by(selection));
            assert!((least..=most).contains(&firsts[0]), "{selection:?}: {firsts:?}");
        }
        let loaded = [members[0], members[1].busy(20)];
        assert_eq!(order(&loaded, &by(KeySelection::LeastUtilized)).ready, [0, 1]);
    }

    #[test]
    fn an_empty_pool_is_an_empty_order() {
        assert_eq!(order(&[], &by(KeySelection::RoundRobin)), Order::default());
    }
}
