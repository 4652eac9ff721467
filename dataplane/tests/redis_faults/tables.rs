//! What is served and limited: everything there is, so that each kind of counter goes through each fault.

use table::{
    Budget, BudgetAction, Limits, NamespaceGrant, NanoUsd, ObjectRef, Period, PicoUsdPerToken, Pricing, ProviderLimits,
    Rates, RedisOutage, Route, Row, Strategy, WireShape::OpenaiChat,
};

use crate::support::{
    tables::{Tables, named},
    upstream::{Act, Received, Script, Upstream},
    wire,
};

/// So much of everything that no limit is ever met.
const PLENTY: u64 = 1_000_000_000_000;
/// A namespace that is not the relay key's: its counters are in another slot.
pub(crate) const CATALOG: &str = "catalog";

/// One model at two hosts, one of them in another namespace, with limits at the relay key, its policy, hosts and keys.
pub(crate) fn tables(upstream: &Upstream, mode: RedisOutage) -> Tables {
    let plenty = Some(PLENTY);
    let limits = Limits { rpd: plenty, tpd: plenty, tpm: plenty, concurrency: plenty, ..Limits::default() };
    let provider = ProviderLimits { rpd: plenty, tpm: plenty, concurrency: plenty, ..ProviderLimits::default() };
    let mut tables = Tables::new()
        .host_with("near", OpenaiChat, &upstream.url(), &[], |host| host.limits = provider.clone())
        .host_with("far", OpenaiChat, &upstream.url(), &[], |host| host.limits = provider.clone())
        .host_key("near", "near-key", |key| key.limits = provider.clone())
        .host_key("far", "far-key", |key| key.limits = provider.clone())
        .model_with("m", &["near", "far"], |model| {
            model.pricing = Some(pricing());
            if let Route::Bindings(bindings) = &mut model.route {
                bindings.iter_mut().for_each(|binding| binding.priority = 0);
                bindings[1].host = ObjectRef::new(CATALOG, "far");
            }
        })
        .policy(|policy| {
            (policy.limits, policy.budgets) = (limits.clone(), vec![budget(Period::Day)]);
            (policy.routing.strategy, policy.redis_outage) = (Strategy::Weighted, mode);
        })
        .relay_key("key", crate::support::tables::TOKEN, |key| {
            (key.limits, key.budget) = (limits.clone(), Some(budget(Period::Month)));
        });
    move_to_catalog(&mut tables);
    tables
}

fn budget(period: Period) -> Budget {
    let amount = NanoUsd(PLENTY);
    Budget {
        amount,
        period,
        timezone: "UTC".to_owned(),
        on_exceeded: BudgetAction::Block,
        alert_at_percent: Vec::new(),
    }
}

fn pricing() -> Pricing {
    let million = |text| PicoUsdPerToken::from_per_million(text).ok();
    Pricing {
        rates: Rates { input: million("1"), output: million("1"), ..Rates::default() },
        audio_in: None,
        audio_out: None,
        per_image: None,
        per_request: None,
        tiers: Vec::new(),
        effective_from: None,
        source: None,
    }
}

fn move_to_catalog(tables: &mut Tables) {
    let far = ObjectRef::new(CATALOG, "far");
    if let Some(Row::Usable(mut host)) = tables.table.hosts.remove(&named("far")) {
        host.allowed = NamespaceGrant::All;
        tables.table.hosts.insert(far.clone(), Row::Usable(host));
    }
    let key = ObjectRef::new(CATALOG, "far-key");
    if let Some(Row::Usable(mut row)) = tables.table.host_keys.remove(&named("far-key")) {
        (row.host, row.allowed) = (far, NamespaceGrant::All);
        tables.table.host_keys.insert(key.clone(), Row::Usable(row));
    }
    let credential = tables.credentials.host_keys.remove(&named("far-key")).expect("each key has a credential");
    tables.credentials.host_keys.insert(key, credential);
}

/// Answers at once; begins a stream and says no more where it is asked with a seed.
pub(crate) fn answer(request: &Received) -> Script {
    if request.json()["seed"].is_null() {
        return wire::good(OpenaiChat, request, "hi");
    }
    let begun = [wire::opening(OpenaiChat), wire::saying(OpenaiChat, "hel", true)].concat();
    Script::stream().chunks(begun).then(Act::Stall)
}
