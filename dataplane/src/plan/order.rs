//! The order of the bindings of one model: their priority first, then the strategy of the policies.

use std::{cmp::Ordering, time::Duration};

use table::{PicoUsdPerToken, Pricing, Rates, Strategy};

use super::{
    Query, Rules, Weather,
    expand::{Group, Leaf, by_weight},
    lottery,
};

/// What a strategy goes by; lower goes first. Equal ones stay as listed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rank {
    Listed,
    Score(f64),
    Wait(Duration),
    Cost(u128),
    Load(u64),
}

/// The leaves of a group in the order in which they are tried. `chance` is the conversation's number where policies want
/// it to stay, and then decides for every strategy that would move it about.
pub(super) fn within(group: Group, rules: &Rules, chance: u64, query: &Query<'_>, weather: &Weather<'_>) -> Group {
    let drawn = |leaf: &Leaf| Rank::Score(-lottery::score(chance, &leaf.host.id.to_string(), leaf.weight));
    let rank = |leaf: &Leaf| match rules.strategy {
        Strategy::Priority => Rank::Listed,
        Strategy::Weighted => drawn(leaf),
        Strategy::Cheapest => Rank::Cost(expected_cost(leaf, query).unwrap_or(u128::MAX)),
        Strategy::LeastLatency | Strategy::LeastBusy if rules.is_sticky => drawn(leaf),
        // An unknown latency goes first: it becomes known by being tried.
        Strategy::LeastLatency => Rank::Wait((weather.host)(&leaf.host.id).latency.unwrap_or_default()),
        Strategy::LeastBusy => Rank::Load((weather.host)(&leaf.host.id).in_flight),
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

/// The price of the estimated tokens in pico-USD; absent where it is not known.
fn expected_cost(leaf: &Leaf, query: &Query<'_>) -> Option<u128> {
    let price = leaf.served.price()?.pricing;
    let of = |tokens: u64, rate: Option<PicoUsdPerToken>| Some(u128::from(tokens) * u128::from(rate?.0));
    let rates = rates_for(&price, query.input_tokens);
    let request = price.per_request.map_or(0, |nano| u128::from(nano.0) * 1_000);
    Some(of(query.input_tokens, rates.input)? + of(query.output_tokens, rates.output)? + request)
}

/// The rates of input and output for an input of this size.
fn rates_for(price: &Pricing, input_tokens: u64) -> Rates {
    let mut rates = price.rates.clone();
    for tier in price.tiers.iter().filter(|tier| input_tokens > tier.above_input_tokens) {
        rates.input = tier.rates.input.or(rates.input);
        rates.output = tier.rates.output.or(rates.output);
    }
    rates
}
