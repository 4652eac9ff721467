//! Every CEL rule has an object that it lets through and one that it refuses, judged both by the types' own
//! `validate_cel` and by `validate_schema`.

mod support;

use std::collections::BTreeSet;

use crds::{Host, HostKey, Kind, Model, Policy, RelayKey, Violation};
use kube::core::cel::ValidationErrors;
use serde_json::Value;
use support::{least, with};

/// Kind, change to the least object, and the refusals expected: none where it is let through.
const CREATED: &[(Kind, &str, &[&str])] = &[
    (Kind::Host, "baseURL: https://api.example.com", &[]),
    (Kind::Host, "baseURL: https://api.example.com:8443/openai/v1/", &[]),
    (Kind::Host, "baseURL: ftp://api.example.com", &["must begin with https:// or http://", "baseURL without https"]),
    (Kind::Host, "baseURL: https://:8443/v1", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https:///v1", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://ex%41mple.com", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://exämple.com", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://api.example.com/a b", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://api.example.com/%zz", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://api.example.com/v1/accounts/a%20b", &[]),
    (Kind::Host, "baseURL: https://api.example.com:65535", &[]),
    (Kind::Host, "baseURL: https://api.example.com:65536", &["must be a URL with a host name or address"]),
    (Kind::Host, "baseURL: https://me:secret@api.example.com", &["must not hold a user name or password"]),
    (Kind::Host, "baseURL: https://api.example.com/v1?key=1", &["must have no query and no fragment"]),
    (Kind::Host, "baseURL: https://api.example.com/v1#top", &["must have no query and no fragment"]),
    (Kind::Host, "{baseURL: 'http://vllm.models.svc:8000', allowPlaintext: true}", &[]),
    (Kind::Host, "baseURL: http://vllm.models.svc:8000", &["baseURL without https"]),
    (Kind::Host, "{baseURL: 'http://vllm.models.svc:8000', allowPlaintext: false}", &["baseURL without https"]),
    (Kind::Host, "baseURL: https://93.184.216.34/v1", &[]),
    (Kind::Host, "baseURL: https://172.32.0.1/v1", &[]),
    (Kind::Host, "baseURL: https://localhost.example.com/v1", &[]),
    (Kind::Host, "baseURL: https://10.0.0.5/v1", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://172.31.0.5", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://192.168.0.5", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://100.64.0.5", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://169.254.169.254/latest", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://127.0.0.1:8443", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://0.0.0.0:8443", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: 'https://[::1]:8443'", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: 'https://[0:0:0:0:0:0:0:1]/v1'", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: 'https://[::]:443'", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: 'https://[fd00::1]'", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: 'https://[FE80::1]'", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://10.example.com", &[]),
    (Kind::Host, "baseURL: https://100.128.0.1", &[]),
    (Kind::Host, "baseURL: https://LocalHost:8443", &["baseURL is a loopback"]),
    (Kind::Host, "baseURL: https://api.localhost", &["baseURL is a loopback"]),
    (Kind::Host, "{baseURL: 'https://10.0.0.5', network: {allowPrivateAddresses: true}}", &[]),
    (
        Kind::Host,
        "{baseURL: 'http://localhost:11434', allowPlaintext: true, network: {allowPrivateAddresses: true}}",
        &[],
    ),
    (Kind::Host, "baseURL: https://1e100.net", &[]),
    (Kind::Host, "baseURL: https://api2.example.com", &[]),
    (
        Kind::Host,
        "{baseURL: 'https://2130706433', network: {allowPrivateAddresses: true}}",
        &["an IPv4 address must be written as four decimal numbers"],
    ),
    (
        Kind::Host,
        "{baseURL: 'https://0x7f.0.0.1/v1', network: {allowPrivateAddresses: true}}",
        &["an IPv4 address must be written as four decimal numbers"],
    ),
    (
        Kind::Host,
        "{baseURL: 'https://0177.0.0.1/v1', network: {allowPrivateAddresses: true}}",
        &["an IPv4 address must be written as four decimal numbers"],
    ),
    (
        Kind::Host,
        "{baseURL: 'https://127.1:443/v1', network: {allowPrivateAddresses: true}}",
        &["an IPv4 address must be written as four decimal numbers"],
    ),
    (Kind::Host, "baseURL: 'https://[2606:4700::1111]/v1'", &[]),
    (Kind::Host, "baseURL: 'https://[::ffff:127.0.0.1]/v1'", &["an IPv6 address must be valid"]),
    (Kind::Host, "baseURL: 'https://[0:0::FFFF:7f00:1]/v1'", &["an IPv6 address must be valid"]),
    (Kind::Host, "auth: {scheme: Bearer}", &[]),
    (Kind::Host, "auth: {scheme: Header, name: api-key}", &[]),
    (Kind::Host, "auth: {scheme: Query}", &["name must be set when scheme is Header or Query"]),
    (Kind::Host, "auth: {scheme: None, name: api-key}", &["name must be set when scheme is Header or Query"]),
    (Kind::Host, "headers: {set: [{name: OpenAI-Project, value: p}], remove: [user-agent], forward: [x-trace]}", &[]),
    (Kind::Host, "headers: {set: [{name: Authorization, value: Bearer x}]}", &["set must not name authorization"]),
    (Kind::Host, "headers: {remove: [Connection]}", &["remove must not name authorization"]),
    (Kind::Host, "headers: {forward: [X-API-Key]}", &["forward must not name authorization"]),
    (Kind::Host, "tls: {verification: Custom, caRef: {kind: ConfigMap, name: ca, key: ca.crt}}", &[]),
    (Kind::Host, "tls: {verification: Custom}", &["caRef must be set when verification is Custom"]),
    (
        Kind::Host,
        "tls: {caRef: {kind: Secret, name: ca, key: ca.crt}}",
        &["caRef must be set when verification is Custom"],
    ),
    (
        Kind::Host,
        "{baseURL: 'http://a.example', allowPlaintext: true, tls: {minVersion: '1.3'}}",
        &["tls is only for an https baseURL"],
    ),
    (Kind::Host, "timeouts: {connect: 3s, firstByte: 1m30s}", &[]),
    (Kind::Host, "timeouts: {connect: 0s}", &["must be longer than zero"]),
    (Kind::Host, "breaker: {rateLimit: {default: 10s, max: 5m}, serverError: {cooldown: 5s, max: 2m}}", &[]),
    (Kind::Host, "breaker: {rateLimit: {default: 10m, max: 5m}}", &["default must not be longer than max"]),
    (Kind::Host, "breaker: {serverError: {cooldown: 121s, max: 2m}}", &["cooldown must not be longer than max"]),
    (Kind::Host, "healthCheck: {mode: Active, interval: 5s}", &[]),
    (Kind::Host, "healthCheck: {mode: Active, interval: 4999ms}", &["interval must be 5s at least"]),
    (Kind::Host, "allowedNamespaces: {from: All}", &[]),
    (Kind::Host, "allowedNamespaces: {from: Selector, selector: {matchLabels: {team: a}}}", &[]),
    (Kind::Host, "allowedNamespaces: {from: Selector}", &["selector must be set when from is Selector"]),
    (
        Kind::Host,
        "allowedNamespaces: {from: Same, selector: {matchLabels: {team: a}}}",
        &["selector must be set when from is Selector"],
    ),
    (Kind::Host, "allowedNamespaces: {from: Selector, selector: {}}", &["an empty selector would match"]),
    (
        Kind::Host,
        "allowedNamespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: Exists}]}}",
        &[],
    ),
    (
        Kind::Host,
        "allowedNamespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In}]}}",
        &["values must be given with In and NotIn"],
    ),
    (Kind::Model, "virtual: {strategy: Failover, targets: [{modelRef: {name: a}}]}\nhosts: null", &[]),
    (
        Kind::Model,
        "virtual: {strategy: Failover, targets: [{modelRef: {name: a}}]}",
        &["exactly one of hosts and virtual must be set"],
    ),
    (Kind::Model, "hosts: null", &["exactly one of hosts and virtual must be set"]),
    (Kind::Model, "{modelName: 'vendor/model-4.5[1m]', aliases: [model]}", &[]),
    (Kind::Model, "{modelName: model, aliases: [other, model]}", &["aliases must not repeat modelName"]),
    (
        Kind::Model,
        "hosts: null\nvirtual: {strategy: Weighted, targets: [{modelRef: {name: a}}]}\npricing: {inputPerMTok: '1', outputPerMTok: '2'}",
        &["a virtual Model has no pricing and no traits"],
    ),
    (Kind::HostKey, "source: {secretKeyRef: null, file: {path: /var/run/relay/keys/one}}", &[]),
    (Kind::HostKey, "source: {secretKeyRef: null, env: {name: RELAY_KEY_ONE}}", &[]),
    (Kind::HostKey, "source: {env: {name: RELAY_KEY_ONE}}", &["exactly one of secretKeyRef, file and env must be set"]),
    (Kind::HostKey, "source: {secretKeyRef: null}", &["exactly one of secretKeyRef, file and env must be set"]),
    (Kind::RelayKey, "{secret: null, tokenSecretRef: {name: mine, key: token}}", &[]),
    (Kind::RelayKey, "secret: null", &["exactly one of secret, tokenHash and tokenSecretRef must be set"]),
    (
        Kind::RelayKey,
        "tokenSecretRef: {name: mine, key: token}",
        &["exactly one of secret, tokenHash and tokenSecretRef must be set"],
    ),
    (Kind::RelayKey, "allowedCIDRs: [10.0.0.0/8, '2001:db8::/32']", &[]),
    (Kind::RelayKey, "allowedCIDRs: [10.0.0.0/8, 10.0.0.1]", &["every entry must be an address range"]),
    (Kind::RelayKey, "allowedCIDRs: [010.0.0.0/8]", &["every entry must be an address range"]),
    (Kind::RelayKey, "allowedCIDRs: ['2001:0db8:01::/32', 0.0.0.0/0, 10.0.10.0/24]", &[]),
    (Kind::RelayKey, "expiresAt: '9999-12-31T23:59:59Z'", &[]),
    (Kind::RelayKey, "expiresAt: '1969-12-31T23:59:59Z'", &["must be later than 1970"]),
    (Kind::RelayKey, "attributes: {team: search, cost-centre: '17'}", &[]),
    (
        Kind::RelayKey,
        "attributes: {aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: x}",
        &["names of attributes must have at most 63 characters"],
    ),
    (Kind::Policy, "retries: {backoff: {base: 25ms, max: 1s}}", &[]),
    (Kind::Policy, "retries: {backoff: {base: 2s, max: 1s}}", &["base must not be longer than max"]),
];

/// Kind, change before, change after, and the refusals expected.
const UPDATED: &[(Kind, &str, &str, &[&str])] = &[
    (Kind::Host, "{}", "baseURL: https://other.example.com", &[]),
    (Kind::Host, "{}", "protocol: Anthropic", &["protocol cannot be changed"]),
    (Kind::Model, "{}", "aliases: [other]", &[]),
    (Kind::Model, "modelName: a", "modelName: a\nsuspend: true", &[]),
    (Kind::Model, "modelName: a", "modelName: b", &["modelName cannot be changed"]),
    (Kind::Model, "modelName: a", "{}", &["modelName cannot be changed"]),
    (Kind::Model, "{}", "modelName: a", &["modelName cannot be changed"]),
    (Kind::HostKey, "{}", "source: {secretKeyRef: {name: other}}", &[]),
    (Kind::HostKey, "{}", "hostRef: {name: other}", &["hostRef cannot be changed"]),
    (Kind::HostKey, "{}", "hostRef: {namespace: other}", &["hostRef cannot be changed"]),
    (Kind::RelayKey, "{}", "secret: {key: other}", &[]),
    (Kind::RelayKey, "{}", "secret: {name: other}", &["secret.name cannot be set, changed or taken away later"]),
    (
        Kind::RelayKey,
        "{}",
        "{secret: null, tokenSecretRef: {name: mine, key: token}}",
        &["secret.name cannot be set, changed or taken away later"],
    ),
    (
        Kind::RelayKey,
        "{secret: null, tokenSecretRef: {name: mine, key: token}}",
        "{}",
        &["secret.name cannot be set, changed or taken away later"],
    ),
    (Kind::RelayKey, "revoked: false", "revoked: true", &[]),
    (Kind::RelayKey, "revoked: true", "revoked: true\nsuspend: true", &[]),
    (Kind::RelayKey, "revoked: true", "revoked: false", &["a revoked key stays revoked"]),
    (Kind::RelayKey, "revoked: true", "{}", &["a revoked key stays revoked"]),
];

const LONG_NAME: &str = "a123456789012345678901234567890123456789012345678901234567890123";

/// What the type's own evaluation says.
fn by_type(kind: Kind, object: &Value, old: Option<&Value>) -> Vec<String> {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }
    macro_rules! judge {
        ($kind:ty) => {{
            let object: $kind = read(object);
            match old {
                Some(old) => object.validate_cel_update(&read(old)),
                None => object.validate_cel(),
            }
        }};
    }
    let verdict: Result<(), ValidationErrors> = match kind {
        Kind::Host => judge!(Host),
        Kind::Model => judge!(Model),
        Kind::HostKey => judge!(HostKey),
        Kind::RelayKey => judge!(RelayKey),
        Kind::Policy => judge!(Policy),
    };
    verdict.err().into_iter().flat_map(ValidationErrors::into_vec).map(|error| error.message).collect()
}

fn messages(violations: Vec<Violation>) -> Vec<String> {
    violations.into_iter().map(|violation| violation.message).collect()
}

fn assert_refusals(found: Vec<String>, expected: &[&str], what: &str) {
    let right = found.len() == expected.len()
        && expected.iter().all(|start| found.iter().any(|message| message.starts_with(start)));
    assert!(right, "{what}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn new_objects_are_judged_by_every_rule() {
    for (kind, patch, expected) in CREATED {
        let object = with(*kind, patch);
        let what = format!("{kind} {patch}");
        assert_refusals(by_type(*kind, &object, None), expected, &what);
        assert_refusals(messages(crds::validate_schema(*kind, &object)), expected, &what);
    }
}

#[test]
fn changed_objects_are_judged_by_what_they_were() {
    for (kind, before, after, expected) in UPDATED {
        let (old, new) = (with(*kind, before), with(*kind, after));
        let what = format!("{kind} {before} -> {after}");
        assert_refusals(by_type(*kind, &new, Some(&old)), expected, &what);
        assert_refusals(messages(crds::validate_update(*kind, &new, &old)), expected, &what);
    }
}

#[test]
fn names_of_more_than_63_characters_are_refused() {
    for kind in Kind::ALL {
        let mut object = least(kind);
        object["metadata"]["name"] = LONG_NAME[..63].into();
        assert_eq!(crds::validate_schema(kind, &object), []);
        object["metadata"]["name"] = LONG_NAME.into();
        let expected = Violation {
            path: "metadata.name".to_owned(),
            message: "metadata.name must have at most 63 characters".to_owned(),
        };
        assert_eq!(crds::validate_schema(kind, &object), [expected]);
        assert_eq!(by_type(kind, &object, None).len(), 1);
    }
}

#[test]
fn no_rule_is_without_a_case_that_it_refuses() {
    let refusals = CREATED.iter().flat_map(|(_, _, refusals)| refusals.iter());
    let refusals: Vec<_> = refusals.chain(UPDATED.iter().flat_map(|(_, _, _, refusals)| refusals.iter())).collect();
    let mut rules = BTreeSet::new();
    Kind::ALL.iter().for_each(|kind| collect_messages(crds::schema(*kind), &mut rules));
    rules.remove("metadata.name must have at most 63 characters");
    assert!(rules.len() > 25, "{rules:?}");
    for rule in rules {
        assert!(refusals.iter().any(|start| rule.starts_with(**start)), "no case is refused with: {rule}");
    }
}

fn collect_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        messages.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
    }
    let properties = schema["properties"].as_object().into_iter().flat_map(|map| map.values());
    let below = ["items", "additionalProperties"].into_iter().filter_map(|keyword| schema.get(keyword));
    properties.chain(below).for_each(|inner| collect_messages(inner, messages));
}

#[test]
fn the_path_of_a_broken_rule_is_the_field() {
    let path = |kind, patch| {
        let found = crds::validate_schema(kind, &with(kind, patch));
        found.into_iter().map(|violation| violation.path).collect::<Vec<_>>()
    };
    assert_eq!(path(Kind::Host, "baseURL: http://a.example"), ["spec.baseURL"]);
    assert_eq!(path(Kind::Host, "timeouts: {connect: 0s}"), ["spec.timeouts.connect"]);
    assert_eq!(path(Kind::HostKey, "source: {secretKeyRef: null}"), ["spec.source"]);
}
