//! Whether data planes can use the Redis that they are given, as their own metrics say.

use super::{
    admin::Page,
    finding::Finding,
    site::{self, Site},
};
use crate::outcome::count;

const CHECK: &str = "redis";
const RUNBOOK: &str = "docs/runbooks.md#relayredisdegraded";
const PAGE: &str = "docs/limits.md#redis";

pub(super) fn findings(site: &Site, pages: &[Page]) -> Vec<Finding> {
    let deployments = site.data_planes.as_deref().unwrap_or_default();
    let is_set = deployments.iter().any(|one| site::is_set(one, "--redis", "RELAY_REDIS"));
    let seen: Vec<(&Page, f64)> = pages.iter().filter_map(|page| Some((page, page.value("relay_redis_up")?))).collect();
    let away: Vec<&str> = seen.iter().filter(|(_, up)| *up < 1.0).map(|(page, _)| page.pod.as_str()).collect();
    let hidden = pages.iter().find_map(|page| page.text.as_ref().err());
    if !away.is_empty() {
        let said = format!(
            "{} of {} cannot use Redis, or a part of its cluster: {}",
            away.len(),
            count(seen.len(), "data plane"),
            away.join(", ")
        );
        let logs = format!("kubectl -n {} logs {} --tail=50", site.namespace, away[0]);
        return vec![Finding::failed(CHECK, said).remedy(logs).see(RUNBOOK)];
    }
    if let Some(reason) = hidden.filter(|_| is_set || !seen.is_empty()) {
        let said = format!("whether all data planes can use Redis: {reason}");
        let forward = format!(
            "kubectl -n {} port-forward deployment/NAME 8081 & curl -s 127.0.0.1:8081/metrics | grep relay_redis_up",
            site.namespace
        );
        return vec![Finding::unseen(CHECK, said).remedy(forward).see(RUNBOOK)];
    }
    match (is_set, seen.len()) {
        (_, 1..) => vec![Finding::fine(CHECK, format!("Redis is used by {}", count(seen.len(), "data plane")))],
        (true, 0) => {
            let said = "data planes are given a Redis, and none of them says whether it can be used";
            vec![Finding::unseen(CHECK, said).see(RUNBOOK)]
        }
        (false, 0) if deployments.is_empty() => Vec::new(),
        (false, 0) => {
            vec![Finding::fine(CHECK, "no Redis is set: each data plane counts limits and budgets alone").see(PAGE)]
        }
    }
}
