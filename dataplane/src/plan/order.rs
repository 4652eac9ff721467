//! The order of the bindings of one model: their priority first, then the strategy of the policies.

use std::{cmp::Ordering, time::Duration};

use table::{NanoUsd, Strategy};

use super::{
    Query, Rules, Weather,
    expand::{Group, Groups, Leaf, by_weight},
    lottery,
};
use crate::meter::cost;

/// What a strategy goes by; lower goes first. Equal ones stay as listed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rank {
    Listed,
    Score(f64),
    Wait(Duration),
    Cost(NanoUsd),
    Load(u32),
}

/// The leaves of all groups in the order in which they are tried.
pub(super) fn of(
    mut groups: Groups,
    rules: &Rules,
    chance: u64,
    query: &Query<'_>,
    weather: &Weather<'_>,
) -> Vec<Leaf> {
    if groups.len() == 1 {
        return within(groups.remove(0), rules, chance, query, weather);
    }
    groups.into_iter().flat_map(|group| within(group, rules, chance, query, weather)).collect()
}

/// The leaves of a group in the order in which they are tried. `chance` is the conversation's number where policies want
/// it to stay, and then decides for every strategy that would move it about.
fn within(group: Group, rules: &Rules, chance: u64, query: &Query<'_>, weather: &Weather<'_>) -> Group {
    if group.len() < 2 {
        return group;
    }
    let drawn = |leaf: &Leaf| Rank::Score(-lottery::score(chance, &leaf.host.id.to_string(), leaf.weight));
    let rank = |leaf: &Leaf| match rules.strategy {
        Strategy::Priority => Rank::Listed,
        Strategy::Weighted => drawn(leaf),
        Strategy::Cheapest => Rank::Cost(expected_cost(leaf, query).unwrap_or(NanoUsd(u64::MAX))),
        Strategy::LeastLatency | Strategy::LeastBusy if rules.is_sticky => drawn(leaf),
        // An unknown latency goes first: it becomes known by being tried.
        Strategy::LeastLatency => Rank::Wait(weather.signals.host(&leaf.host.id).latency().unwrap_or_default()),
        Strategy::LeastBusy => Rank::Load(weather.signals.host(&leaf.host.id).in_flight()),
    };
    let mut ranked: Vec<(Rank, Leaf)> = group.into_iter().map(|leaf| (rank(&leaf), leaf)).collect();
    ranked.sort_by(|(one, a), (other, b)| {
        a.priority.cmp(&b.priority).then_with(|| compare(*one, *other)).then_with(|| by_weight(a).cmp(&by_weight(b)))
    });
    ranked.into_iter().map(|(_, leaf)| leaf).collect()
}

fn compare(one: Rank, other: Rank) -> Ordering {
    match (one, other) {
        (Rank::Score(one), Rank::Score(other)) => one.total_cmp(&other),
        (Rank::Wait(one), Rank::Wait(other)) => one.cmp(&other),
        (Rank::Cost(one), Rank::Cost(other)) => one.cmp(&other),
        (Rank::Load(one), Rank::Load(other)) => one.cmp(&other),
        // One strategy ranks all.
        (Rank::Listed | Rank::Score(_) | Rank::Wait(_) | Rank::Cost(_) | Rank::Load(_), _) => Ordering::Equal,
    }
}

/// What the estimated tokens cost there; absent where the price is not known.
fn expected_cost(leaf: &Leaf, query: &Query<'_>) -> Option<NanoUsd> {
    cost::expected_cost(&query.estimate, query.ask.images as u64, &leaf.served.price()?.pricing, query.now)
}
