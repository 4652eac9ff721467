//! Prices of manifests as integers.

use table::{PicoUsdPerToken, Pricing, Rates, Tier};

use crate::findings::Findings;

/// The prices of the field `field`. Tiers ascend, in whatever order they were written.
pub(crate) fn pricing(field: &str, written: &crds::Pricing, found: &mut Findings) -> Pricing {
    let mut price = |name: &str, written: Option<&crds::Price>| rate(field, name, written, found);
    let rates = Rates {
        input: price("inputPerMTok", Some(&written.input_per_mtok)),
        output: price("outputPerMTok", Some(&written.output_per_mtok)),
        cached_input: price("cachedInputPerMTok", written.cached_input_per_mtok.as_ref()),
        cache_write_5m: price("cacheWrite5mPerMTok", written.cache_write_5m_per_mtok.as_ref()),
        cache_write_1h: price("cacheWrite1hPerMTok", written.cache_write_1h_per_mtok.as_ref()),
        reasoning: price("reasoningPerMTok", written.reasoning_per_mtok.as_ref()),
    };
    Pricing { rates, tiers: tiers(field, written, found), ..Pricing::default() }
}

fn tiers(field: &str, written: &crds::Pricing, found: &mut Findings) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = Vec::new();
    for (at, written) in written.tiers.iter().flatten().enumerate() {
        let above = written.above_input_tokens;
        if tiers.iter().any(|tier| tier.above_input_tokens == above) {
            found.refuse(format!("{field}.tiers[{at}].aboveInputTokens {above} is there twice: one tier a bound"));
        }
        tiers.push(tier(&format!("{field}.tiers[{at}]"), written, found));
    }
    tiers.sort_by_key(|tier| tier.above_input_tokens);
    tiers
}

fn tier(field: &str, written: &crds::PriceTier, found: &mut Findings) -> Tier {
    let mut price = |name: &str, written: Option<&crds::Price>| rate(field, name, written, found);
    let rates = Rates {
        input: price("inputPerMTok", written.input_per_mtok.as_ref()),
        output: price("outputPerMTok", written.output_per_mtok.as_ref()),
        cached_input: price("cachedInputPerMTok", written.cached_input_per_mtok.as_ref()),
        cache_write_5m: price("cacheWrite5mPerMTok", written.cache_write_5m_per_mtok.as_ref()),
        cache_write_1h: price("cacheWrite1hPerMTok", written.cache_write_1h_per_mtok.as_ref()),
        reasoning: price("reasoningPerMTok", written.reasoning_per_mtok.as_ref()),
    };
    if rates == Rates::default() {
        found.refuse(format!("{field} changes no price: name one, as in `inputPerMTok: \"6\"`"));
    }
    Tier { above_input_tokens: written.above_input_tokens, rates }
}

fn rate(field: &str, name: &str, written: Option<&crds::Price>, found: &mut Findings) -> Option<PicoUsdPerToken> {
    let price = PicoUsdPerToken::from_per_million(written?.as_str());
    price.map_err(|error| found.refuse(format!("{field}.{name}: {error}"))).ok()
}
