//! Hosts: upstream surfaces with every default filled in.

use crds::{AuthScheme, Kind, Protocol};
use kube::ResourceExt;
use table::{
    Auth, AuthBreaker, Breaker, ClientCertificate, Credentials, HeaderRules, HealthCheck, Host, Http, HttpVersion,
    KeySelection, ObjectRef, RateLimitBreaker, Row, Rows, ServerErrorBreaker, Timeouts, Tls, TlsVerification,
    TlsVersion, UnreachableBreaker, WireShape,
};

use crate::{
    address, dialect, durations,
    reports::{Reason, Reports},
    resolve::{Problem, World},
    shared,
};

/// How often healthy keys are probed where a manifest does not say.
const PROBE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) fn rows(world: &World<'_>, reports: &mut Reports, credentials: &mut Credentials) -> Rows<Host> {
    let mut rows = Rows::new();
    for (id, object) in &world.resources.hosts {
        let row = match row(world, id, &object.spec, credentials) {
            Ok(host) => {
                if host.suspended {
                    let message = format!("`spec.suspend` of {} is true", object.name_any());
                    reports.unready(Kind::Host, id, Reason::HostDisabled, message);
                }
                Row::Usable(host)
            }
            Err((reason, message)) => {
                match reason {
                    Reason::Invalid => reports.refuse(Kind::Host, id, reason, message.clone()),
                    _ => reports.unresolved(Kind::Host, id, reason, message.clone()),
                }
                Row::Invalid { reason: message }
            }
        };
        rows.insert(id.clone(), row);
    }
    rows
}

fn row(
    world: &World<'_>,
    id: &ObjectRef,
    spec: &crds::HostSpec,
    credentials: &mut Credentials,
) -> Result<Host, Problem> {
    let invalid = |message| (Reason::Invalid, message);
    let (shape, version) = match spec.protocol {
        Protocol::OpenAI => (WireShape::OpenaiChat, "v1"),
        Protocol::Anthropic => (WireShape::AnthropicMessages, "v1"),
    };
    let allow_private_addresses = spec.network.as_ref().and_then(|n| n.allow_private_addresses).unwrap_or(false);
    let base_url = address::base(&spec.base_url, spec.api_prefix.as_deref(), version).map_err(invalid)?;
    if !base_url.starts_with("https://") && !spec.allow_plaintext.unwrap_or(false) {
        return Err(invalid(format!(
            "spec.baseURL `{}` is not https: set `spec.allowPlaintext: true` to allow it",
            spec.base_url
        )));
    }
    if let Some(address) = address::private(&spec.base_url).filter(|_| !allow_private_addresses) {
        return Err(invalid(format!(
            "spec.baseURL: `{address}` is not a public address: set `spec.network.allowPrivateAddresses: true` to allow it"
        )));
    }
    Ok(Host {
        shape,
        base_url,
        auth: auth(spec),
        allow_private_addresses,
        headers: headers(spec.headers.as_ref()),
        tls: tls(world, id, spec.tls.as_ref(), credentials)?,
        dialect: dialect::dialect(spec.dialect.as_ref()).map_err(invalid)?,
        model_patterns: spec.model_patterns.clone().unwrap_or_default(),
        timeouts: timeouts(spec.timeouts.as_ref()),
        http: http(spec.http.as_ref()),
        breaker: breaker(spec.breaker.as_ref()),
        key_selection: match spec.key_selection {
            None | Some(crds::KeySelection::LeastUtilized) => KeySelection::LeastUtilized,
            Some(crds::KeySelection::RoundRobin) => KeySelection::RoundRobin,
            Some(crds::KeySelection::Weighted) => KeySelection::Weighted,
            Some(crds::KeySelection::CacheAffinity) => KeySelection::CacheAffinity,
        },
        health_check: health_check(spec.health_check.as_ref()),
        limits: shared::provider_limits(spec.limits.as_ref()),
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::Host, id),
    })
}

/// The credential goes where the shape has it, unless the manifest says otherwise.
fn auth(spec: &crds::HostSpec) -> Auth {
    let Some(auth) = &spec.auth else {
        return match spec.protocol {
            Protocol::OpenAI => Auth::Bearer,
            Protocol::Anthropic => Auth::Header("x-api-key".to_owned()),
        };
    };
    let name = auth.name.clone().unwrap_or_default();
    match auth.scheme {
        AuthScheme::Bearer => Auth::Bearer,
        AuthScheme::Header => Auth::Header(name.to_lowercase()),
        AuthScheme::Query => Auth::Query(name),
        AuthScheme::None => Auth::None,
    }
}

fn headers(written: Option<&crds::Headers>) -> HeaderRules {
    let lower = |names: &Option<Vec<String>>| names.iter().flatten().map(|name| name.to_lowercase()).collect();
    let Some(headers) = written else { return HeaderRules::default() };
    let set = headers.set.iter().flatten().map(|header| (header.name.to_lowercase(), header.value.clone()));
    HeaderRules { set: set.collect(), remove: lower(&headers.remove), forward: lower(&headers.forward) }
}

fn tls(
    world: &World<'_>,
    id: &ObjectRef,
    written: Option<&crds::Tls>,
    credentials: &mut Credentials,
) -> Result<Tls, Problem> {
    let Some(tls) = written else { return Ok(Tls::default()) };
    if let Some(certificate) = &tls.client_certificate_ref {
        let field = "spec.tls.clientCertificateRef";
        let (chain, _) = world.secret(field, &id.namespace, &certificate.name, "tls.crt")?;
        let (key_pem, _) = world.secret(field, &id.namespace, &certificate.name, "tls.key")?;
        let certificate = ClientCertificate { chain_pem: chain.expose().clone(), key_pem };
        credentials.client_certificates.insert(id.clone(), certificate);
    }
    let custom = || -> Result<TlsVerification, Problem> {
        let Some(reference) = &tls.ca_ref else {
            return Err((Reason::Invalid, "spec.tls.caRef is missing: `verification: Custom` needs it".to_owned()));
        };
        certificate_authority(world, &id.namespace, reference).map(TlsVerification::Custom)
    };
    Ok(Tls {
        verification: match tls.verification {
            Some(crds::Verification::Custom) => custom()?,
            None if tls.ca_ref.is_some() => custom()?,
            None | Some(crds::Verification::System) => TlsVerification::System,
            Some(crds::Verification::None) => TlsVerification::None,
        },
        server_name: tls.server_name.clone(),
        min_version: match tls.min_version {
            None | Some(crds::TlsVersion::V1_2) => TlsVersion::V1_2,
            Some(crds::TlsVersion::V1_3) => TlsVersion::V1_3,
        },
    })
}

fn certificate_authority(world: &World<'_>, namespace: &str, reference: &crds::CaRef) -> Result<String, Problem> {
    let field = "spec.tls.caRef";
    let crds::CaRef { kind, name, key } = reference;
    let pem = match kind {
        crds::CaKind::Secret => world.secret(field, namespace, name, key)?.0.expose().clone(),
        crds::CaKind::ConfigMap => {
            let Some(data) = world.resources.config_maps.get(&ObjectRef::new(namespace, name)) else {
                let message = format!("{field}: there is no ConfigMap `{name}` in namespace `{namespace}`");
                return Err((Reason::RefNotFound, message));
            };
            let missing = || (Reason::RefNotFound, format!("{field}: ConfigMap `{name}` has no key `{key}`"));
            data.get(key).cloned().ok_or_else(missing)?
        }
    };
    if pem.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(pem);
    }
    Err((Reason::Invalid, format!("{field}: key `{key}` of {kind} `{name}` holds no PEM certificate")))
}

fn timeouts(written: Option<&crds::Timeouts>) -> Timeouts {
    let standard = Timeouts::default();
    let Some(timeouts) = written else { return standard };
    Timeouts {
        connect: durations::or(timeouts.connect.as_ref(), standard.connect),
        first_byte: durations::or(timeouts.first_byte.as_ref(), standard.first_byte),
        stream_idle: durations::or(timeouts.stream_idle.as_ref(), standard.stream_idle),
        request: durations::or(timeouts.request.as_ref(), standard.request),
    }
}

fn http(written: Option<&crds::HttpTuning>) -> Http {
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
        idle_timeout: durations::or(http.idle_timeout.as_ref(), standard.idle_timeout),
    }
}

fn breaker(written: Option<&crds::Breaker>) -> Breaker {
    let standard = Breaker::default();
    let Some(breaker) = written else { return standard };
    Breaker {
        auth: breaker.auth.as_ref().map_or(standard.auth.clone(), |auth| AuthBreaker {
            threshold: auth.threshold.unwrap_or(standard.auth.threshold),
            cooldown: durations::or(auth.cooldown.as_ref(), standard.auth.cooldown),
        }),
        rate_limit: breaker.rate_limit.as_ref().map_or(standard.rate_limit.clone(), |limit| RateLimitBreaker {
            honor_retry_after: limit.honor_retry_after.unwrap_or(standard.rate_limit.honor_retry_after),
            default: durations::or(limit.default.as_ref(), standard.rate_limit.default),
            max: durations::or(limit.max.as_ref(), standard.rate_limit.max),
        }),
        server_error: breaker.server_error.as_ref().map_or(standard.server_error.clone(), |error| ServerErrorBreaker {
            consecutive: error.consecutive.unwrap_or(standard.server_error.consecutive),
            ratio_percent: error.ratio_percent.unwrap_or(standard.server_error.ratio_percent),
            min_requests: error.min_requests.unwrap_or(standard.server_error.min_requests),
            window: durations::or(error.window.as_ref(), standard.server_error.window),
            cooldown: durations::or(error.cooldown.as_ref(), standard.server_error.cooldown),
            max: durations::or(error.max.as_ref(), standard.server_error.max),
        }),
        unreachable: breaker.unreachable.as_ref().map_or(standard.unreachable.clone(), |unreachable| {
            UnreachableBreaker {
                consecutive: unreachable.consecutive.unwrap_or(standard.unreachable.consecutive),
                cooldown: durations::or(unreachable.cooldown.as_ref(), standard.unreachable.cooldown),
            }
        }),
        half_open_probes: breaker.half_open_probes.unwrap_or(standard.half_open_probes),
    }
}

fn health_check(written: Option<&crds::HealthCheck>) -> HealthCheck {
    let Some(check) = written else { return HealthCheck { interval: PROBE_INTERVAL, ..HealthCheck::default() } };
    HealthCheck {
        active: check.mode == crds::HealthCheckMode::Active,
        path: check.path.clone(),
        interval: durations::or(check.interval.as_ref(), PROBE_INTERVAL),
        model: check.model.clone(),
    }
}
