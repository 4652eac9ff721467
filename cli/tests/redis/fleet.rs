//! Data planes that count together under one policy, and what they know and wrote.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;
use servers::Redis;
use tempfile::TempDir;

use crate::{
    server::{Server, ask, until},
    support::directory,
    upstream::Upstream,
};

pub(crate) const BEARER: (&str, &str) = ("authorization", "Bearer token-of-the-fleet-0123456789-abcdefghij");

/// What a token of input of the model `priced`, or of `held`, costs in nano-USD.
pub(crate) const INPUT_PRICE: u64 = 1_000;
/// The same for output.
pub(crate) const OUTPUT_PRICE: u64 = 4_000;

const COUNT_HOLDS: &str = "local count = 0
    for _, hold in ipairs(redis.call('HVALS', KEYS[1])) do
      count = count + math.min(1, #cmsgpack.unpack(hold))
    end
    return count";

/// Some processes that serve the same manifests and count in the same Redis.
pub(crate) struct Fleet {
    pub(crate) relays: Vec<Server>,
    pub(crate) redis: Redis,
    pub(crate) upstream: Upstream,
    directory: TempDir,
}

impl Fleet {
    /// Starts so many, under a shared policy of so many tokens a day and so much money in total, in nano-USD
    /// and whole micro-USD.
    pub(crate) fn start(count: usize, tokens: u64, money: u64) -> Self {
        let (redis, upstream) = (Redis::start(), Upstream::start());
        let directory = directory(&[("manifests/relay.yaml", &manifests(upstream.address, tokens, money))]);
        let url = redis.url();
        let relays = (0..count).map(|number| {
            let records = records(&directory, number);
            let records = records.to_str().expect("temporary paths are UTF-8");
            // A busy machine is no outage.
            let arguments = ["--strict", "--redis", &url, "--redis-timeout", "5s", "--usage", records];
            let relay = Server::run(&directory.path().join("manifests"), &arguments, &[]);
            assert!(!relay.first_line.is_empty(), "{}", relay.log());
            relay
        });
        Self { relays: relays.collect(), redis, upstream, directory }
    }

    /// Where the processes serve.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.relays.iter().map(Server::listen).collect()
    }

    /// The usage records that one process has written so far.
    pub(crate) fn records(&self, number: usize) -> Vec<Value> {
        let text = fs::read_to_string(records(&self.directory, number)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What a process says of a rule of the policy: what is used of it.
    pub(crate) fn used(&self, number: usize, rule: &str) -> u64 {
        let answer = ask(self.relays[number].listen(), "/v1/usage", &[BEARER], "");
        let usage: Value = serde_json::from_str(&answer.body).expect("usage is JSON");
        let rules = usage["limits"].as_array().unwrap_or_else(|| panic!("no limits in {usage}"));
        let found = rules.iter().find(|line| line["rule"] == rule).unwrap_or_else(|| panic!("no {rule} in {usage}"));
        found["used"].as_u64().expect("a number")
    }

    /// Reservations that Redis holds. Not among them: ids that must not be taken any more, which hold nothing.
    pub(crate) fn held(&self) -> usize {
        let count = self.redis.cli(&["EVAL", COUNT_HOLDS, "1", "relay:{default}:holds"]);
        count.trim().parse().expect("a number")
    }

    /// Waits until no process has anything to do, and no reservation is open.
    pub(crate) fn all_settled(&self, processes: &[usize]) {
        let is_idle = |number: &usize| {
            let metrics = ask(self.relays[*number].admin(), "/metrics", &[], "").body;
            metrics.lines().any(|line| line == "relay_requests_in_flight 0")
        };
        until(|| processes.iter().all(is_idle), || "requests to end".to_owned());
        until(|| self.held() == 0, || format!("{} reservations to be settled", self.held()));
    }

    /// Stops all processes that still run, which write what they have to write.
    pub(crate) fn stop(&mut self) {
        for relay in &mut self.relays {
            relay.signal("TERM");
            relay.end();
        }
    }
}

/// What the records say was used: tokens, and money in nano-USD.
pub(crate) fn sums<'a>(records: impl Iterator<Item = &'a Value>) -> (u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    records.fold((0, 0), |(tokens, money), record| {
        let usage = &record["usage"];
        (tokens + number(&usage["input"]) + number(&usage["output"]), money + number(&record["cost_nano_usd"]))
    })
}

fn records(directory: &TempDir, number: usize) -> PathBuf {
    directory.path().join(format!("usage-{number}.jsonl"))
}

fn manifests(upstream: SocketAddr, tokens: u64, money: u64) -> String {
    let price = |nano: u64| format!("\"{}.{:03}\"", nano / 1_000, nano % 1_000);
    let pricing =
        format!("  pricing: {{inputPerMTok: {}, outputPerMTok: {}}}\n", price(INPUT_PRICE), price(OUTPUT_PRICE));
    let model = |name: &str, pricing: &str| {
        format!(
            "apiVersion: llmrelay.io/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  \
             hosts:\n    - name: up\n      hostRef: {{name: up}}\n      upstreamModel: {name}\n{pricing}---\n"
        )
    };
    let models = [model("priced", &pricing), model("held", &pricing), model("free", "")].concat();
    format!(
        r#"{models}apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {{name: up}}
spec:
  protocol: OpenAI
  baseURL: http://{upstream}
  allowPlaintext: true
  network: {{allowPrivateAddresses: true}}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {{name: up}}
spec:
  hostRef: {{name: up}}
  source: {{secretKeyRef: {{name: secrets, key: provider}}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {{name: everyone}}
spec:
  models: {{allow: ["*"]}}
  limits: {{scope: Shared, tpd: {tokens}, concurrency: 1000000}}
  budgets:
    - amount: "{}.{:06}"
      period: Total
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{name: app}}
spec:
  policyRefs: [{{name: everyone}}]
  tokenSecretRef: {{name: secrets, key: token}}
---
apiVersion: v1
kind: Secret
metadata: {{name: secrets}}
stringData:
  provider: key-of-the-upstream
  token: {}
"#,
        money / 1_000_000_000,
        money % 1_000_000_000 / 1_000,
        BEARER.1.trim_start_matches("Bearer "),
    )
}
