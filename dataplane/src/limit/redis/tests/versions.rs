//! Processes of several versions beside each other: whatever of it another version has written, Redis counts the same.
//!
//! One Redis hears of everything from this version alone. In the other, what is stored becomes now and then what versions
//! write that know of no layouts: charges without one, and counters in any order, with numbers as short as they are.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::{prelude::*, test_runner::TestRunner};
use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use super::{
    super::{Redis, Settings, batches::lease, keys::Keys, script::Time},
    books,
    places::{Place, Standalone},
};
use crate::{
    limit::{
        Limiter,
        claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
        reservation::{Reservation, Used},
        rule::{Counted, Scope, Span},
        window::Ceiling,
    },
    pool::signals::Signals,
};

const DOMAIN: &str = "team";
const START: u64 = 1_792_843_190_000;
const NAMES: [&str; 3] = ["a", "b", "host"];

/// What is stored as other versions store it: holds have no layouts, counters are packed as Lua's tables are.
const REWRITE: &str = "
    for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
        local hold = cmsgpack.unpack(redis.call('HGET', KEYS[1], id))
        for _, part in ipairs(hold) do
            for _, charge in ipairs(part) do
                if (#charge - charge[3]) % 3 == 1 then
                    table.remove(charge)
                end
            end
        end
        redis.call('HSET', KEYS[1], id, cmsgpack.pack(hold))
    end
    for n = 2, #KEYS do
        local counters = redis.call('GET', KEYS[n])
        if counters then
            redis.call('SET', KEYS[n], cmsgpack.pack(cmsgpack.unpack(counters)), 'KEEPTTL')
        end
    end
    return 'done'";

/// Counters become as long as they are in rows, in the same order, with whole numbers of eight bytes.
const AS_LONG: &str = "
    local counters, names = cmsgpack.unpack(redis.call('GET', KEYS[2])), {}
    for name in pairs(counters) do
        if name ~= 'x' then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    local text = string.char(129 + #names) .. cmsgpack.pack('x', counters.x)
    for _, name in ipairs(names) do
        text = text .. cmsgpack.pack(name, counters[name])
    end
    local is_as_long = #text == redis.call('STRLEN', KEYS[2])
    redis.call('SET', KEYS[2], text, 'KEEPTTL')
    return is_as_long and 'done' or 'longer or shorter'";

/// Everything that is counted, in words.
const TELL: &str = "
    local said = {redis.call('HLEN', KEYS[1])}
    for n = 2, #KEYS do
        local lines = {}
        for name, numbers in pairs(cmsgpack.unpack(redis.call('GET', KEYS[n]) or '\\128')) do
            local text = name
            for _, number in ipairs(type(numbers) == 'table' and numbers or {numbers}) do
                text = text .. string.format(' %.0f', number)
            end
            lines[#lines + 1] = text
        end
        table.sort(lines)
        said[#said + 1] = KEYS[n] .. ': ' .. table.concat(lines, ', ') .. ', ' .. redis.call('ZCARD', KEYS[n] .. ':slots')
    end
    return table.concat(said, '; ')";

#[derive(Clone, Debug)]
enum Deed {
    /// Which rules are claimed, and how much.
    Reserve {
        rules: Rules,
        tokens: u64,
        cost: u64,
        with_host: bool,
    },
    /// So many of those that are open are over at once.
    Settle {
        first: usize,
        many: usize,
        tokens: u64,
        cost: u64,
    },
    Cancel {
        which: usize,
    },
    Pass {
        millis: u64,
    },
    /// What is stored becomes what another version has written.
    Rewrite,
}

#[derive(Clone, Copy, Debug)]
enum Rules {
    All,
    Rates,
    Money,
    Slots,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let rules =
        prop_oneof![4 => Just(Rules::All), 1 => Just(Rules::Rates), 1 => Just(Rules::Money), 1 => Just(Rules::Slots)];
    let deed = prop_oneof![
        6 => (rules, 0..90_u64, 0..90_u64, any::<bool>())
            .prop_map(|(rules, tokens, cost, with_host)| Deed::Reserve { rules, tokens, cost, with_host }),
        5 => (any::<usize>(), 1..4_usize, 0..150_u64, 0..150_u64)
            .prop_map(|(first, many, tokens, cost)| Deed::Settle { first, many, tokens, cost }),
        1 => any::<usize>().prop_map(|which| Deed::Cancel { which }),
        2 => (0..100_000_u64).prop_map(|millis| Deed::Pass { millis }),
        2 => Just(Deed::Rewrite),
    ];
    prop::collection::vec(deed, 1..30)
}

/// A process, and what it holds.
struct Side {
    prefix: String,
    redis: Redis,
    open: Vec<Reservation>,
}

impl Side {
    async fn start(prefix: String) -> Self {
        let time = Time::Key { prefix: format!("{prefix}:clock:") };
        let settings = Settings { prefix: prefix.clone(), time, records: None };
        set_clock(&prefix, START);
        let redis = Redis::start(Standalone::shared().target(), &settings, &books(), Arc::new(Signals::new())).await;
        Self { prefix, redis: redis.expect("the target is whole"), open: Vec::new() }
    }

    async fn play(&mut self, deed: &Deed, now: u64) {
        let inner = self.redis.inner.clone();
        inner.denials.forget();
        match *deed {
            Deed::Reserve { rules, tokens, cost, with_host } => {
                self.open.extend(self.redis.reserve(claims(rules, tokens, cost, with_host)).await.ok());
            }
            Deed::Settle { first, many, tokens, cost } => {
                for _ in 0..many.min(self.open.len()) {
                    let used = Used { input_tokens: tokens, output_tokens: 3, cost: NanoUsd(cost) };
                    self.open.swap_remove(first % self.open.len()).settle(used);
                }
            }
            Deed::Cancel { which } if !self.open.is_empty() => drop(self.open.swap_remove(which % self.open.len())),
            Deed::Cancel { .. } => {}
            Deed::Pass { millis } => {
                inner.ledger.renew_for(millis + lease());
                inner.settled().await;
                set_clock(&self.prefix, now);
                inner.clock.heard(now);
                inner.ledger.renew_for(lease());
            }
            Deed::Rewrite => {}
        }
        inner.settled().await;
    }

    fn run(&self, script: &str) -> String {
        let keys = Keys::new(&self.prefix);
        let counters = NAMES.map(|name| keys.scope(&scope(name)));
        let names: Vec<_> = [keys.holds(DOMAIN)].into_iter().chain(counters).collect();
        let count = names.len().to_string();
        let words: Vec<_> = ["EVAL", script, &*count].into_iter().chain(names.iter().map(|name| &**name)).collect();
        Standalone::shared().serving(DOMAIN).cli(&words)
    }

    fn counted(&self) -> String {
        self.run(TELL).replace(&self.prefix, "relay")
    }
}

fn set_clock(prefix: &str, now: u64) {
    for domain in [DOMAIN, super::super::keys::FLEET] {
        let key = format!("{prefix}:clock:{{{domain}}}");
        Standalone::shared().serving(domain).cli(&["SET", &key, &now.to_string()]);
    }
}

#[test]
fn what_is_counted_is_the_same_whichever_version_wrote_what_is_stored() {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let run = TestRunner::new(ProptestConfig::with_cases(40)).run(&deeds(), |deeds| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let mut alone = Side::start(format!("versions-alone-{number}")).await;
            let mut mixed = Side::start(format!("versions-mixed-{number}")).await;
            let mut now = START;
            for deed in &deeds {
                if let Deed::Pass { millis } = deed {
                    now += millis;
                }
                if let Deed::Rewrite = deed {
                    prop_assert_eq!(mixed.run(REWRITE), "done");
                }
                for side in [&mut alone, &mut mixed] {
                    side.play(deed, now).await;
                }
                prop_assert_eq!(mixed.counted(), alone.counted(), "after {:?}", deed);
                prop_assert_eq!(mixed.open.len(), alone.open.len(), "after {:?}", deed);
            }
            Ok(())
        })
    });
    run.expect("both count alike");
}

#[tokio::test]
async fn counters_that_another_version_wrote_as_long_as_a_row_are_not_taken_for_one() {
    let mut side = Side::start("versions-as-long".to_owned()).await;
    // So much takes eight bytes, whoever writes it.
    let much = 1 << 33;
    let mut claim = limited("a", Rules::Money, 0, much);
    claim.budgets[0].limit = NanoUsd(10 * much);
    let claims = Claims { domain: DOMAIN.into(), scopes: [claim].into_iter().collect(), ..Claims::default() };
    for _ in 0..2 {
        side.open.push(side.redis.reserve(claims.clone()).await.expect("the claims fit"));
    }
    assert_eq!(side.run(AS_LONG), "done");

    side.play(&Deed::Settle { first: 0, many: 1, tokens: 0, cost: 7 }, START).await;

    let counted = side.counted();
    assert!(counted.contains(&format!(" {} {much} ", much + 7)), "{counted}");
}

fn scope(name: &str) -> Scope {
    let name = ObjectRef::new(DOMAIN, name);
    if name.name == "host" { Scope::HostKey(name) } else { Scope::RelayKey(name) }
}

fn claims(rules: Rules, tokens: u64, cost: u64, with_host: bool) -> Claims {
    let scopes = ["a", "b"].map(|name| limited(name, rules, tokens, cost)).into_iter().collect();
    let host = CandidateClaim { scopes: vec![limited("host", Rules::All, tokens, 0)], ..CandidateClaim::default() };
    let candidates = if with_host { vec![host] } else { Vec::new() };
    Claims { domain: DOMAIN.into(), scopes, max_candidates: candidates.len(), candidates }
}

/// The second scope has two rates that are told apart by their beginnings alone.
fn limited(name: &str, rules: Rules, tokens: u64, cost: u64) -> ScopeClaim {
    let rate = |counted, span, amount| RateClaim { counted, span, ceiling: Ceiling::flat(2_000), amount };
    let minute = match name {
        "b" => rate(Counted::InputTokens, Span::Minute, tokens),
        _ => rate(Counted::Requests, Span::Minute, 1),
    };
    let rates =
        smallvec![minute, rate(Counted::Tokens, Span::Minute, tokens), rate(Counted::Tokens, Span::Day, tokens)];
    let budget = BudgetClaim {
        period: Period::Day,
        timezone: "Europe/Berlin".into(),
        limit: NanoUsd(3_000),
        amount: NanoUsd(cost),
        blocks: true,
        alert_at_percent: [].into(),
    };
    let (has_rates, has_budget, has_slots) = match rules {
        Rules::All => (true, true, true),
        Rules::Rates => (true, false, false),
        Rules::Money => (false, true, false),
        Rules::Slots => (false, false, true),
    };
    ScopeClaim {
        rates: if has_rates { rates } else { smallvec![] },
        budgets: if has_budget { smallvec![budget] } else { smallvec![] },
        concurrency: has_slots.then_some(6),
        ..ScopeClaim::new(Arc::new(scope(name)))
    }
}
