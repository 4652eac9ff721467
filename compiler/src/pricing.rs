//! Prices of manifests as integers.

use table::{PicoUsdPerToken, Pricing, Rates, Tier};

/// The prices of the field `field`. Errs on a price that is not money and on tiers that do not ascend.
pub(crate) fn pricing(field: &str, written: &crds::Pricing) -> Result<Pricing, String> {
    let price = |name: &str, written: Option<&crds::Price>| rate(&format!("{field}.{name}"), written);
    let rates = Rates {
        input: price("inputPerMTok", Some(&written.input_per_mtok))?,
        output: price("outputPerMTok", Some(&written.output_per_mtok))?,
        cached_input: price("cachedInputPerMTok", written.cached_input_per_mtok.as_ref())?,
        cache_write_5m: price("cacheWrite5mPerMTok", written.cache_write_5m_per_mtok.as_ref())?,
        cache_write_1h: price("cacheWrite1hPerMTok", written.cache_write_1h_per_mtok.as_ref())?,
        reasoning: price("reasoningPerMTok", written.reasoning_per_mtok.as_ref())?,
    };
    let mut tiers: Vec<Tier> = Vec::new();
    for (at, tier) in written.tiers.iter().flatten().enumerate() {
        let field = format!("{field}.tiers[{at}]");
        let above = tier.above_input_tokens;
        if let Some(before) = tiers.last().filter(|before| before.above_input_tokens >= above) {
            let bound = before.above_input_tokens;
            return Err(format!(
                "{field}.aboveInputTokens {above} must be larger than {bound}, that of the tier before"
            ));
        }
        tiers.push(self::tier(&field, tier)?);
    }
    Ok(Pricing { rates, tiers, ..Pricing::default() })
}

fn tier(field: &str, written: &crds::PriceTier) -> Result<Tier, String> {
    let price = |name: &str, written: Option<&crds::Price>| rate(&format!("{field}.{name}"), written);
    let rates = Rates {
        input: price("inputPerMTok", written.input_per_mtok.as_ref())?,
        output: price("outputPerMTok", written.output_per_mtok.as_ref())?,
        cached_input: price("cachedInputPerMTok", written.cached_input_per_mtok.as_ref())?,
        cache_write_5m: price("cacheWrite5mPerMTok", written.cache_write_5m_per_mtok.as_ref())?,
        cache_write_1h: price("cacheWrite1hPerMTok", written.cache_write_1h_per_mtok.as_ref())?,
        reasoning: price("reasoningPerMTok", written.reasoning_per_mtok.as_ref())?,
    };
    Ok(Tier { above_input_tokens: written.above_input_tokens, rates })
}

fn rate(field: &str, written: Option<&crds::Price>) -> Result<Option<PicoUsdPerToken>, String> {
    let Some(written) = written else { return Ok(None) };
    let price = PicoUsdPerToken::from_per_million(written.as_str());
    price.map(Some).map_err(|error| format!("{field}: {error}"))
}
