//! Estimates, claims and limiter together: small limits are not refused by large guesses.

use std::{collections::BTreeMap, sync::Arc};

use table::{Limits, NanoUsd, ObjectRef, RelayKey};

use super::{Bench, admitted, claims, key, on_a_quiet_day, refused};
use crate::limit::{
    claims::Claims,
    estimate::{Estimator, Sizes},
    reservation::Used,
    terms::{Expected, Terms, caller_scopes, wanting},
};

fn relay_key(tpm: u64) -> RelayKey {
    RelayKey {
        token_sha256: String::new(),
        previous: None,
        policies: Vec::new(),
        expires_at: None,
        revoked: false,
        suspended: false,
        limits: Limits { tpm: Some(tpm), ..Limits::default() },
        budget: None,
        allowed_cidrs: Vec::new(),
        attributes: BTreeMap::new(),
        unusable: None,
    }
}

fn request(estimator: &Estimator, relay_key: &RelayKey, sizes: &Sizes) -> Claims {
    let name = ObjectRef::new("team", "a");
    let terms = Terms { key: &name, relay_key, policies: &[], model: Some("gpt-5") };
    let estimate = estimator.estimate(&name, "gpt-5", sizes);
    let expected = Expected { input: estimate.input, output: estimate.output, cost: NanoUsd(0) };
    claims(wanting(&caller_scopes(&terms), expected))
}

/// Whatever it asks for, and though nothing is known of it yet.
pub fn the_first_request_of_a_small_limit_is_admitted<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        for (tpm, text_bytes) in [(1_000, 400), (1_000, 5_000), (100, 40), (1, 1)] {
            let (estimator, relay_key) = (Estimator::new(), relay_key(tpm));
            let sizes = Sizes { text_bytes, messages: 1, max_output: Some(128_000), ..Sizes::default() };
            let mut asked = request(&estimator, &relay_key, &sizes);
            // A limit of one token is below twice the smallest request, and so truly out of proportion.
            if tpm == 1 {
                assert_eq!(refused(&*bench, asked).await.retry_after, None);
                continue;
            }
            asked.scopes[0].scope = key(&format!("{tpm}-{text_bytes}")).scope;
            drop(admitted(&*bench, asked).await);
        }
    });
}

/// 10,000 tokens a minute are a hundred answers of a hundred tokens; most of them must pass in one minute.
pub fn a_client_that_asks_for_128000_tokens_keeps_its_throughput<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let (estimator, relay_key) = (Estimator::new(), relay_key(10_000));
        let sizes = Sizes { text_bytes: 200, messages: 1, max_output: Some(128_000), ..Sizes::default() };
        let mut passed = 0;
        while let Ok(reservation) = bench.limiter().reserve(request(&estimator, &relay_key, &sizes)).await {
            let (input_tokens, output_tokens) = (57, 43);
            estimator.learn(&ObjectRef::new("team", "a"), "gpt-5", &sizes, input_tokens, output_tokens);
            reservation.settle(Used { input_tokens, output_tokens, cost: NanoUsd(0) });
            bench.settled().await;
            passed += 1;
        }
        assert!((97..=100).contains(&passed), "{passed} passed");
    });
}
