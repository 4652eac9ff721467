//! What callers and records are told when limits were held to without the counters that data planes share.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{sync::Arc, time::Duration};

use dataplane::limit::{
    LimitError, Limiter, Refused, RuleUsage,
    claims::{Claims, ScopeClaim},
    memory::Memory,
    reservation::Reservation,
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use support::{
    client::{Ask, Whole},
    relay::{Loopback, TestRelay, config},
    tables::Tables,
    upstream::{Script, Upstream},
    wire::{self, SHAPES},
};
use table::WireShape::{self, AnthropicMessages, OpenaiChat};

/// A limiter that has lost its shared counters.
struct Lost {
    memory: Memory,
    closed: bool,
}

impl Limiter for Lost {
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>> {
        Box::pin(async {
            if self.closed {
                return Err(LimitError::Unavailable);
            }
            match self.memory.reserve(claims).await {
                Ok(reservation) => Ok(reservation.degraded()),
                Err(LimitError::Refused(refused)) => Err(LimitError::Refused(Refused { degraded: true, ..refused })),
                Err(LimitError::Unavailable) => Err(LimitError::Unavailable),
            }
        })
    }

    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>> {
        match self.closed {
            true => Box::pin(async { Err(LimitError::Unavailable) }),
            false => self.memory.usage(scopes),
        }
    }

    fn close(&self, within: Duration) -> BoxFuture<'_, ()> {
        self.memory.close(within)
    }
}

async fn counting(tables: Tables, limiter: Arc<dyn Limiter>) -> TestRelay {
    TestRelay::start_counting(tables, config(), Arc::new(Loopback), limiter).await
}

fn lost(closed: bool) -> Arc<dyn Limiter> {
    Arc::new(Lost { memory: Memory::new(), closed })
}

async fn good() -> (Upstream, Tables) {
    let upstream = Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    (upstream, tables.policy(|policy| policy.limits.rpm = Some(100)))
}

fn said(answer: &Whole) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-relay-limits"))
}

/// Whether each record says that limits were degraded.
async fn recorded(relay: TestRelay) -> Vec<Value> {
    relay.records().await.into_iter().map(|record| record["limits_degraded"].clone()).collect()
}

#[tokio::test]
async fn every_answer_says_that_its_limits_were_degraded_streamed_or_not_and_in_either_shape() {
    let (_upstream, tables) = good().await;
    let relay = counting(tables, lost(false)).await;
    for shape in SHAPES {
        for ask in [Ask::of(shape, "m"), Ask::of(shape, "m").streamed()] {
            assert_eq!(said(&relay.ask(&ask).await), (200, Some("degraded")), "{shape}");
        }
    }
    assert_eq!(recorded(relay).await, [json!(true), json!(true), json!(true), json!(true)]);
}

#[tokio::test]
async fn an_answer_under_shared_counters_says_nothing() {
    let (_upstream, tables) = good().await;
    let relay = counting(tables, Arc::new(Memory::new())).await;
    assert_eq!(said(&relay.ask(&Ask::openai("m")).await), (200, None));
    assert_eq!(recorded(relay).await, [json!(false)]);
}

#[tokio::test]
async fn a_refusal_by_this_data_planes_part_of_a_limit_says_so() {
    let (_upstream, tables) = good().await;
    let relay = counting(tables.policy(|policy| policy.limits.rpm = Some(1)), lost(false)).await;
    relay.ask(&Ask::openai("m")).await;
    let refused = relay.ask(&Ask::openai("m")).await;
    assert_eq!(said(&refused), (429, Some("degraded")));
    let message = wire::message_of(OpenaiChat, &refused);
    assert!(message.contains("each data plane holds to its part"), "{message}");
    assert_eq!(recorded(relay).await, [json!(true), json!(true)]);
}

#[tokio::test]
async fn a_failure_behind_a_degraded_reservation_says_so_too() {
    let upstream =
        Upstream::start(|_| Script::json(400, &wire::error(OpenaiChat, "invalid_request_error", "no"))).await;
    let tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["k"]).model("m", &["h"]);
    let relay = counting(tables, lost(false)).await;
    assert_eq!(said(&relay.ask(&Ask::openai("m")).await), (400, Some("degraded")));
    assert_eq!(recorded(relay).await, [json!(true)]);
}

#[tokio::test]
async fn where_a_policy_closes_in_an_outage_requests_are_refused_in_the_callers_shape_with_a_time_to_come_back() {
    let (upstream, tables) = good().await;
    let relay = counting(tables, lost(true)).await;
    for shape in SHAPES {
        let refused = relay.ask(&Ask::of(shape, "m")).await;
        assert_eq!(said(&refused), (overloaded(shape), Some("degraded")));
        assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), (Some("1"), None));
        let message = wire::message_of(shape, &refused);
        assert!(message.contains("limits cannot be checked"), "{message}");
        assert!(message.contains("`redisOutage.mode` is `Closed`"), "{message}");
    }
    let usage = relay.ask(&Ask::get("/v1/usage")).await;
    assert_eq!(said(&usage), (503, Some("degraded")));
    assert_eq!(upstream.count(), 0);
    let records = relay.records().await;
    let told: Vec<_> = records.iter().map(|record| (&record["limits_degraded"], &record["error_code"])).collect();
    let closed = (&json!(true), &json!("limits_unavailable"));
    assert_eq!(told, [closed, closed]);
}

/// The status that says overloaded in a shape.
fn overloaded(shape: WireShape) -> u16 {
    match shape {
        OpenaiChat => 503,
        AnthropicMessages => 529,
    }
}
