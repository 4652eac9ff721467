//! The parts of a Host about time and trouble, with their defaults: timeouts, connections, breakers, healing.

use std::time::Duration;

use table::{
    AuthBreaker, Breaker, HealthCheck, Http, HttpVersion, RateLimitBreaker, ServerErrorBreaker, Timeouts,
    UnreachableBreaker,
};

use crate::{duration, findings::Findings};

/// How often healthy keys are probed where a manifest does not say.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

pub(crate) fn timeouts(written: Option<&crds::Timeouts>, found: &mut Findings) -> Timeouts {
    let standard = Timeouts::default();
    let Some(timeouts) = written else { return standard };
    let mut or = |name: &str, written: Option<&crds::Duration>, default| {
        duration::or(found, &format!("spec.timeouts.{name}"), written, default)
    };
    Timeouts {
        connect: or("connect", timeouts.connect.as_ref(), standard.connect),
        first_byte: or("firstByte", timeouts.first_byte.as_ref(), standard.first_byte),
        stream_idle: or("streamIdle", timeouts.stream_idle.as_ref(), standard.stream_idle),
        request: or("request", timeouts.request.as_ref(), standard.request),
    }
}

pub(crate) fn http(written: Option<&crds::HttpTuning>, found: &mut Findings) -> Http {
    let standard = Http::default();
    let Some(http) = written else { return standard };
    Http {
        version: match http.version {
            None | Some(crds::HttpVersion::Auto) => HttpVersion::Auto,
            Some(crds::HttpVersion::H1) => HttpVersion::H1,
            Some(crds::HttpVersion::H2) => HttpVersion::H2,
        },
        max_connections: http.max_connections,
        max_streams_per_connection: http.max_streams_per_connection,
        idle_timeout: duration::or(found, "spec.http.idleTimeout", http.idle_timeout.as_ref(), standard.idle_timeout),
    }
}

pub(crate) fn breaker(written: Option<&crds::Breaker>, found: &mut Findings) -> Breaker {
    let standard = Breaker::default();
    let Some(breaker) = written else { return standard };
    Breaker {
        auth: auth(breaker.auth.as_ref(), standard.auth, found),
        rate_limit: rate_limit(breaker.rate_limit.as_ref(), standard.rate_limit, found),
        server_error: server_error(breaker.server_error.as_ref(), standard.server_error, found),
        unreachable: unreachable(breaker.unreachable.as_ref(), standard.unreachable, found),
        half_open_probes: breaker.half_open_probes.unwrap_or(standard.half_open_probes),
    }
}

fn auth(written: Option<&crds::AuthBreaker>, standard: AuthBreaker, found: &mut Findings) -> AuthBreaker {
    let Some(auth) = written else { return standard };
    AuthBreaker {
        threshold: auth.threshold.unwrap_or(standard.threshold),
        cooldown: duration::or(found, "spec.breaker.auth.cooldown", auth.cooldown.as_ref(), standard.cooldown),
    }
}

fn rate_limit(
    written: Option<&crds::RateLimitBreaker>,
    standard: RateLimitBreaker,
    found: &mut Findings,
) -> RateLimitBreaker {
    let Some(limit) = written else { return standard };
    let low = ("default", limit.default.as_ref(), standard.default);
    let high = ("max", limit.max.as_ref(), standard.max);
    let (default, max) = duration::ordered(found, "spec.breaker.rateLimit", low, high);
    let honor_retry_after = limit.honor_retry_after.unwrap_or(standard.honor_retry_after);
    RateLimitBreaker { honor_retry_after, default, max }
}

fn server_error(
    written: Option<&crds::ServerErrorBreaker>,
    standard: ServerErrorBreaker,
    found: &mut Findings,
) -> ServerErrorBreaker {
    let Some(error) = written else { return standard };
    let field = "spec.breaker.serverError";
    let low = ("cooldown", error.cooldown.as_ref(), standard.cooldown);
    let high = ("max", error.max.as_ref(), standard.max);
    let (cooldown, max) = duration::ordered(found, field, low, high);
    ServerErrorBreaker {
        consecutive: error.consecutive.unwrap_or(standard.consecutive),
        ratio_percent: error.ratio_percent.unwrap_or(standard.ratio_percent),
        min_requests: error.min_requests.unwrap_or(standard.min_requests),
        window: duration::or(found, &format!("{field}.window"), error.window.as_ref(), standard.window),
        cooldown,
        max,
    }
}

fn unreachable(
    written: Option<&crds::UnreachableBreaker>,
    standard: UnreachableBreaker,
    found: &mut Findings,
) -> UnreachableBreaker {
    let Some(host) = written else { return standard };
    let field = "spec.breaker.unreachable.cooldown";
    UnreachableBreaker {
        consecutive: host.consecutive.unwrap_or(standard.consecutive),
        cooldown: duration::or(found, field, host.cooldown.as_ref(), standard.cooldown),
    }
}

pub(crate) fn health_check(written: Option<&crds::HealthCheck>, found: &mut Findings) -> HealthCheck {
    let Some(check) = written else { return HealthCheck { interval: PROBE_INTERVAL, ..HealthCheck::default() } };
    HealthCheck {
        active: check.mode == crds::HealthCheckMode::Active,
        path: check.path.clone(),
        interval: duration::or(found, "spec.healthCheck.interval", check.interval.as_ref(), PROBE_INTERVAL),
        model: check.model.clone(),
    }
}
