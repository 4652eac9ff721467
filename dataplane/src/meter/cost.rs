//! What an answer costs: exact integers, rounded once at the end; no price is not zero.

use jiff::Timestamp;
use protocol::usage::Usage;
use table::{NanoUsd, PicoUsdPerToken, Pricing, Rates};

use crate::limit::estimate::Estimate;

/// The cost of `usage` and of so many images of the input, to the nearest nano-USD. Absent: a price that is needed is
/// not known, or the prices do not hold yet. Tools that the provider ran are not in it: the table has no prices of them.
pub fn cost(usage: &Usage, images: u64, pricing: &Pricing, now: Timestamp) -> Option<NanoUsd> {
    if pricing.effective_from.is_some_and(|from| now < from) {
        return None;
    }
    let pico = input(usage, pricing)? + output(usage, pricing)? + flat(images, pricing)?;
    Some(NanoUsd(u64::try_from((pico + 500) / 1_000).unwrap_or(u64::MAX)))
}

/// The cost of a request that takes what was estimated, none of it from a cache.
pub fn expected_cost(estimate: &Estimate, images: u64, pricing: &Pricing, now: Timestamp) -> Option<NanoUsd> {
    let usage = Usage { input: estimate.input, output: estimate.output, ..Usage::default() };
    cost(&usage, images, pricing, now)
}

/// In pico-USD.
fn input(usage: &Usage, pricing: &Pricing) -> Option<u128> {
    let rates = rates(pricing, usage.input_total());
    let write_5m = rates.cache_write_5m.or(rates.input);
    // Sound in a cache is priced as the cache is.
    let sound = usage.audio_input.min(usage.input);
    let parts = [
        of(usage.input - sound, rates.input)?,
        of(sound, pricing.audio_in)?,
        of(usage.cache_read, rates.cached_input.or(rates.input))?,
        of(usage.cache_write_5m, write_5m)?,
        of(usage.cache_write_1h, rates.cache_write_1h.or(write_5m))?,
    ];
    Some(parts.iter().sum())
}

/// In pico-USD.
fn output(usage: &Usage, pricing: &Pricing) -> Option<u128> {
    let rates = rates(pricing, usage.input_total());
    let reasoning = usage.reasoning.min(usage.output);
    let sound = usage.audio_output.min(usage.output - reasoning);
    let parts = [
        of(usage.output - reasoning - sound, rates.output)?,
        of(reasoning, rates.reasoning.or(rates.output))?,
        of(sound, pricing.audio_out)?,
    ];
    Some(parts.iter().sum())
}

/// In pico-USD. A price a request is in addition; a price an image too, since most providers count images as tokens.
fn flat(images: u64, pricing: &Pricing) -> Option<u128> {
    let each = |count: u64, price: Option<NanoUsd>| price.map_or(0, |price| u128::from(count) * u128::from(price.0));
    Some((each(images, pricing.per_image) + each(1, pricing.per_request)) * 1_000)
}

/// Nothing costs nothing, whatever the price; something without a price has no cost.
fn of(tokens: u64, price: Option<PicoUsdPerToken>) -> Option<u128> {
    if tokens == 0 {
        return Some(0);
    }
    price.map(|price| u128::from(tokens) * u128::from(price.0))
}

/// The rates for an input of this size: those of each tier that it exceeds lie over those below.
fn rates(pricing: &Pricing, input_total: u64) -> Rates {
    let exceeded = pricing.tiers.iter().filter(|tier| input_total > tier.above_input_tokens);
    exceeded.fold(pricing.rates.clone(), |below, tier| Rates {
        input: tier.rates.input.or(below.input),
        output: tier.rates.output.or(below.output),
        cached_input: tier.rates.cached_input.or(below.cached_input),
        cache_write_5m: tier.rates.cache_write_5m.or(below.cache_write_5m),
        cache_write_1h: tier.rates.cache_write_1h.or(below.cache_write_1h),
        reasoning: tier.rates.reasoning.or(below.reasoning),
    })
}

#[cfg(test)]
mod tests {
    use table::Tier;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn usd(per_million: &str) -> Option<PicoUsdPerToken> {
        Some(PicoUsdPerToken::from_per_million(per_million).expect("a valid price"))
    }

    fn plain() -> Pricing {
        Pricing { rates: Rates { input: usd("3"), output: usd("15"), ..Rates::default() }, ..Pricing::default() }
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    #[test]
    fn input_and_output_have_their_rates() {
        assert_eq!(cost(&usage(1_000, 100), 0, &plain(), NOW), Some(NanoUsd(3_000_000 + 1_500_000)));
    }

    #[test]
    fn caches_and_reasoning_have_their_rates() {
        let rates = Rates {
            cached_input: usd("0.30"),
            cache_write_5m: usd("3.75"),
            cache_write_1h: usd("6"),
            reasoning: usd("20"),
            ..plain().rates
        };
        let usage = Usage {
            input: 10,
            cache_read: 1_000,
            cache_write_5m: 100,
            cache_write_1h: 10,
            output: 50,
            reasoning: 20,
            ..Usage::default()
        };
        let expected = 10 * 3_000 + 1_000 * 300 + 100 * 3_750 + 10 * 6_000 + 30 * 15_000 + 20 * 20_000;
        assert_eq!(cost(&usage, 0, &Pricing { rates, ..plain() }, NOW), Some(NanoUsd(expected)));
    }

    #[test]
    fn absent_rates_of_caches_and_reasoning_fall_back_as_the_table_says() {
        let usage =
            Usage { cache_read: 1, cache_write_5m: 1, cache_write_1h: 1, output: 1, reasoning: 1, ..Usage::default() };
        assert_eq!(cost(&usage, 0, &plain(), NOW), Some(NanoUsd(3 * 3_000 + 15_000)));
        let rates = Rates { cache_write_5m: usd("4"), ..plain().rates };
        let written_5m_twice = 3_000 + 2 * 4_000 + 15_000;
        assert_eq!(cost(&usage, 0, &Pricing { rates, ..plain() }, NOW), Some(NanoUsd(written_5m_twice)));
    }

    #[test]
    fn a_price_that_is_needed_and_not_known_makes_the_cost_unknown() {
        let no_output = Pricing { rates: Rates { output: None, ..plain().rates }, ..plain() };
        assert_eq!(cost(&usage(10, 1), 0, &no_output, NOW), None);
        assert_eq!(cost(&usage(10, 0), 0, &no_output, NOW), Some(NanoUsd(30_000)));
        assert_eq!(cost(&usage(1, 0), 0, &Pricing::default(), NOW), None);
    }

    #[test]
    fn a_long_input_moves_the_whole_request_to_its_tier() {
        let tier = |above_input_tokens, input, output| Tier {
            above_input_tokens,
            rates: Rates { input, output, ..Rates::default() },
        };
        let tiers = vec![tier(1_000, usd("6"), usd("30")), tier(2_000, usd("9"), None)];
        let pricing = Pricing { tiers, ..plain() };
        assert_eq!(cost(&usage(1_000, 1), 0, &pricing, NOW), Some(NanoUsd(3_000_000 + 15_000)));
        assert_eq!(cost(&usage(1_001, 1), 0, &pricing, NOW), Some(NanoUsd(1_001 * 6_000 + 30_000)));
        let cached = Usage { cache_read: 2_000, ..usage(1, 1) };
        assert_eq!(cost(&cached, 0, &pricing, NOW), Some(NanoUsd(2_001 * 9_000 + 30_000)));
    }

    #[test]
    fn images_and_requests_cost_in_addition() {
        let pricing = Pricing { per_image: Some(NanoUsd(5)), per_request: Some(NanoUsd(7)), ..plain() };
        assert_eq!(cost(&usage(1, 0), 2, &pricing, NOW), Some(NanoUsd(3_000 + 10 + 7)));
    }

    #[test]
    fn sound_has_its_own_rate_and_none_else() {
        let spoken = Usage { audio_input: 10, audio_output: 5, ..usage(30, 20) };
        assert_eq!(cost(&spoken, 0, &plain(), NOW), None);
        let pricing = Pricing { audio_in: usd("40"), audio_out: usd("80"), ..plain() };
        let expected = 20 * 3_000 + 10 * 40_000 + 15 * 15_000 + 5 * 80_000;
        assert_eq!(cost(&spoken, 0, &pricing, NOW), Some(NanoUsd(expected)));
    }

    #[test]
    fn prices_hold_from_their_day_on() {
        let later = Pricing { effective_from: Some("2030-01-01T00:00:00Z".parse().expect("a valid time")), ..plain() };
        assert_eq!(cost(&usage(1, 1), 0, &later, NOW), None);
    }

    #[test]
    fn parts_of_a_nano_usd_are_rounded_once() {
        let pricing = Pricing { rates: Rates { input: usd("0.0003"), ..Rates::default() }, ..Pricing::default() };
        assert_eq!(cost(&usage(1, 0), 0, &pricing, NOW), Some(NanoUsd(0)));
        assert_eq!(cost(&usage(2, 0), 0, &pricing, NOW), Some(NanoUsd(1)));
        assert_eq!(cost(&usage(10, 0), 0, &pricing, NOW), Some(NanoUsd(3)));
    }

    #[test]
    fn numbers_beyond_reason_saturate() {
        let usage = Usage { input: u64::MAX, ..Usage::default() };
        assert_eq!(cost(&usage, 0, &plain(), NOW), Some(NanoUsd(u64::MAX)));
    }
}
