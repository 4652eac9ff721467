//! Hosts: upstream surfaces with every default filled in.

use crds::{AuthScheme, Kind, Protocol};
use table::{Auth, Credentials, HeaderRules, Host, KeySelection, ObjectRef, Rows, WireShape};

use crate::{
    address::{self, Written},
    dialect,
    findings::{Findings, Reports},
    host_tuning,
    resolve::World,
    shared, tls,
};

pub(crate) fn rows(world: &World<'_>, reports: &mut Reports<'_>, credentials: &mut Credentials) -> Rows<Host> {
    world.rows(Kind::Host, &world.resources.hosts, reports, |id, object, found| {
        let host = host(world, id, &object.spec, found);
        let certificate = tls::client_certificate(world, id, object.spec.tls.as_ref(), found);
        let row = found.row_if_resolved(host);
        if let Some(certificate) = certificate.filter(|_| row.usable().is_some()) {
            credentials.client_certificates.insert(id.clone(), certificate);
        }
        row
    })
}

fn host(world: &World<'_>, id: &ObjectRef, spec: &crds::HostSpec, found: &mut Findings) -> Host {
    let shape = match spec.protocol {
        Protocol::OpenAI => WireShape::OpenaiChat,
        Protocol::Anthropic => WireShape::AnthropicMessages,
    };
    let network = spec.network.as_ref();
    let allow_private = network.and_then(|network| network.allow_private_addresses).unwrap_or(false);
    if shape != WireShape::OpenaiChat && spec.dialect.is_some() {
        found.note(format!("spec.dialect has no effect: it is about hosts with `protocol: {}`", Protocol::OpenAI));
    }
    Host {
        shape,
        base_url: base_url(spec, allow_private, found),
        auth: auth(spec, found),
        allow_private_addresses: allow_private,
        headers: headers(spec.headers.as_ref()),
        tls: tls::tls(world, id, spec, found),
        dialect: found.checked(dialect::dialect(spec.dialect.as_ref())),
        model_patterns: spec.model_patterns.clone().unwrap_or_default(),
        timeouts: host_tuning::timeouts(spec.timeouts.as_ref(), found),
        http: host_tuning::http(spec.http.as_ref(), found),
        breaker: host_tuning::breaker(spec.breaker.as_ref(), found),
        key_selection: key_selection(spec.key_selection),
        health_check: host_tuning::health_check(spec.health_check.as_ref(), found),
        limits: shared::provider_limits(spec.limits.as_ref()),
        suspended: spec.suspend.unwrap_or(false),
        allowed: world.grant(Kind::Host, id),
    }
}

fn base_url(spec: &crds::HostSpec, allow_private: bool, found: &mut Findings) -> String {
    let version = match spec.protocol {
        Protocol::OpenAI | Protocol::Anthropic => "v1",
    };
    let written = Written {
        base_url: &spec.base_url,
        api_prefix: spec.api_prefix.as_deref(),
        allow_plaintext: spec.allow_plaintext.unwrap_or(false),
        allow_private,
    };
    found.checked(address::base(&written, version))
}

/// The credential goes where the shape has it, unless the manifest says otherwise.
fn auth(spec: &crds::HostSpec, found: &mut Findings) -> Auth {
    let Some(auth) = &spec.auth else {
        return match spec.protocol {
            Protocol::OpenAI => Auth::Bearer,
            Protocol::Anthropic => Auth::Header("x-api-key".to_owned()),
        };
    };
    let mut name = || {
        let missing =
            || format!("spec.auth.name is missing: `scheme: {}` needs it, as in `name: api-key`", auth.scheme);
        found.checked(auth.name.clone().ok_or_else(missing))
    };
    match auth.scheme {
        AuthScheme::Bearer => Auth::Bearer,
        AuthScheme::Header => Auth::Header(name().to_lowercase()),
        AuthScheme::Query => Auth::Query(name()),
        AuthScheme::None => Auth::None,
    }
}

fn headers(written: Option<&crds::Headers>) -> HeaderRules {
    let lower = |names: &Option<Vec<String>>| names.iter().flatten().map(|name| name.to_lowercase()).collect();
    let Some(headers) = written else { return HeaderRules::default() };
    let set = headers.set.iter().flatten().map(|header| (header.name.to_lowercase(), header.value.clone()));
    HeaderRules { set: set.collect(), remove: lower(&headers.remove), forward: lower(&headers.forward) }
}

fn key_selection(written: Option<crds::KeySelection>) -> KeySelection {
    match written {
        None => KeySelection::default(),
        Some(crds::KeySelection::LeastUtilized) => KeySelection::LeastUtilized,
        Some(crds::KeySelection::RoundRobin) => KeySelection::RoundRobin,
        Some(crds::KeySelection::Weighted) => KeySelection::Weighted,
        Some(crds::KeySelection::CacheAffinity) => KeySelection::CacheAffinity,
    }
}
