//! Whom the NetworkPolicies select, and what passes them. There is no engine that enforces them in tests: what they say is
//! evaluated here as Kubernetes' documentation defines it, for pods as the chart makes them.

use chart::{Combination, Helm, NAMESPACE};
use serde_json::{Value, json};
use tempfile::tempdir;

/// A pod: its namespace's labels, its own, and its ports by name.
struct Pod {
    namespace: Value,
    labels: Value,
    ports: Vec<(String, u64)>,
}

impl Pod {
    /// The pod that a Deployment of the chart makes.
    fn of(objects: &[Value], deployment: &str) -> Self {
        let found =
            objects.iter().find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == deployment);
        let template = &found.unwrap_or_else(|| panic!("there is no Deployment {deployment}"))["spec"]["template"];
        let ports = template["spec"]["containers"][0]["ports"].as_array().into_iter().flatten();
        let port = |port: &Value| {
            (
                port["name"].as_str().expect("ports are named").to_owned(),
                port["containerPort"].as_u64().expect("a number"),
            )
        };
        Self {
            namespace: json!({"kubernetes.io/metadata.name": NAMESPACE}),
            labels: template["metadata"]["labels"].clone(),
            ports: ports.map(port).collect(),
        }
    }

    /// A pod that the chart knows nothing of.
    fn stranger(namespace: &str) -> Self {
        Self {
            namespace: json!({"kubernetes.io/metadata.name": namespace, "example.com/llm": (namespace == "apps").to_string()}),
            labels: json!({"app": "stranger"}),
            ports: Vec::new(),
        }
    }
}

/// Whether a pod may connect to a port of another, as far as the policies of the chart go.
fn passes(objects: &[Value], from: &Pod, to: &Pod, port: u64) -> bool {
    let policies = || objects.iter().filter(|object| object["kind"] == "NetworkPolicy");
    let on = |pod: &Pod| {
        let (namespace, labels) = (pod.namespace.clone(), pod.labels.clone());
        policies().filter(move |policy| {
            namespace["kubernetes.io/metadata.name"] == policy["metadata"]["namespace"]
                && selects(&policy["spec"]["podSelector"], &labels)
        })
    };
    let side = |pod: &Pod, direction: &str, peer: &str, other: &Pod| {
        let of_pod: Vec<&Value> = on(pod).collect();
        let rules = of_pod.iter().flat_map(|policy| policy["spec"][direction].as_array().into_iter().flatten());
        of_pod.is_empty() || rules.into_iter().any(|rule| admits(rule, peer, other, to, port))
    };
    side(to, "ingress", "from", from) && side(from, "egress", "to", to)
}

/// Whether a rule is about this peer and port.
fn admits(rule: &Value, direction: &str, peer: &Pod, to: &Pod, port: u64) -> bool {
    let named = |name: &Value| to.ports.iter().any(|(own, number)| name == own.as_str() && *number == port);
    let of_port = rule["ports"]
        .as_array()
        .is_none_or(|ports| ports.iter().any(|each| each["port"] == port || named(&each["port"])));
    let of_peer = rule[direction].as_array().is_none_or(|peers| peers.iter().any(|each| is(each, peer)));
    of_port && of_peer
}

/// Whether a peer of a rule is this pod. Networks are those outside: pods have no addresses here.
fn is(peer: &Value, pod: &Pod) -> bool {
    if peer["ipBlock"].is_object() {
        return false;
    }
    let of_namespace = match &peer["namespaceSelector"] {
        Value::Null => pod.namespace["kubernetes.io/metadata.name"] == NAMESPACE,
        selector => selects(selector, &pod.namespace),
    };
    of_namespace && (peer["podSelector"].is_null() || selects(&peer["podSelector"], &pod.labels))
}

fn selects(selector: &Value, labels: &Value) -> bool {
    assert!(selector["matchExpressions"].is_null(), "not evaluated here: {selector}");
    selector["matchLabels"].as_object().into_iter().flatten().all(|(name, value)| labels[name] == *value)
}

#[test]
fn pods_reach_what_they_need_and_nothing_else_of_relay() {
    let home = tempdir().expect("a folder is made");
    let objects = Combination::named("trial").objects(&Helm::alone(home.path()));
    let pod = |name: &str| Pod::of(&objects, name);
    let [operator, data_plane, redis, demo] =
        ["relay-operator", "relay-dataplane", "relay-redis", "relay-demo"].map(pod);
    let (near, far) = (Pod::stranger(NAMESPACE), Pod::stranger("apps"));
    let may = |from, to, port| passes(&objects, from, to, port);

    // Who is let in where.
    for from in [&near, &far, &demo] {
        assert!(may(from, &data_plane, 8080), "applications ask data planes");
    }
    for from in [&near, &far] {
        assert!(
            may(from, &data_plane, 8081) && may(from, &operator, 9091),
            "scrapers are everybody unless they are named"
        );
        assert!(!may(from, &operator, 9443), "tables are for data planes");
        assert!(!may(from, &redis, 6379), "counters are for data planes");
        assert!(!may(from, &demo, 9090), "the demo upstream is for data planes");
    }
    assert!(may(&data_plane, &operator, 9443) && may(&operator, &operator, 9443));
    assert!(may(&data_plane, &redis, 6379) && !may(&operator, &redis, 6379));
    // Who is let out where.
    assert!(!may(&redis, &data_plane, 8080) && !may(&redis, &far, 443), "the bundled Redis connects to nobody");
    assert!(!may(&demo, &operator, 9443) && !may(&demo, &redis, 6379));
    assert!(!may(&operator, &data_plane, 8080), "operators are connected to");
    assert!(may(&data_plane, &demo, 9090), "the demo is an upstream");
}

#[test]
fn applications_and_scrapers_that_are_named_are_the_only_ones() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let everything = Combination::named("everything").objects(&helm);
    let data_plane = Pod::of(&everything, "relay-dataplane");
    assert!(passes(&everything, &Pod::stranger("apps"), &data_plane, 8080));
    assert!(!passes(&everything, &Pod::stranger("elsewhere"), &data_plane, 8080));
    let watched = Combination::named("watched").objects(&helm);
    for (pod, port) in [("relay-dataplane", 8081), ("relay-operator", 9091)] {
        let pod = Pod::of(&watched, pod);
        assert!(passes(&watched, &Pod::stranger("monitoring"), &pod, port));
        assert!(!passes(&watched, &Pod::stranger("apps"), &pod, port));
    }
}

#[test]
fn sidecars_of_namespaces_that_consent_reach_the_operator_and_the_port_that_is_theirs() {
    let home = tempdir().expect("a folder is made");
    let objects = Combination::named("sidecars").objects(&Helm::alone(home.path()));
    let [operator, data_plane] = ["relay-operator", "relay-dataplane"].map(|name| Pod::of(&objects, name));
    let pod = |consent: &str, asks: &str| Pod {
        namespace: json!({"kubernetes.io/metadata.name": "team-a", "llmrelay.io/inject": consent}),
        labels: json!({"llmrelay.io/inject": asks}),
        ports: Vec::new(),
    };
    let may = |from: &Pod, to, port| passes(&objects, from, to, port);
    assert!(may(&pod("enabled", "true"), &operator, 9443) && may(&pod("enabled", "true"), &data_plane, 8443));
    for other in [pod("enabled", "false"), pod("disabled", "true"), Pod::stranger("team-a"), Pod::stranger(NAMESPACE)] {
        assert!(!may(&other, &operator, 9443) && !may(&other, &data_plane, 8443));
        assert!(may(&other, &data_plane, 8080), "applications ask data planes");
    }
}

#[test]
fn upstreams_are_the_networks_that_are_named_without_those_that_are_excepted() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let blocks = |combination: &str| {
        let objects = Combination::named(combination).objects(&helm);
        let policy = objects
            .iter()
            .find(|object| object["kind"] == "NetworkPolicy" && object["metadata"]["name"] == "relay-dataplane");
        let rules = policy.expect("there is one")["spec"]["egress"].as_array().expect("there are rules").clone();
        let found = rules.into_iter().find(|rule| rule["to"][0]["ipBlock"].is_object());
        found.expect("there are networks")
    };
    assert_eq!(
        blocks("default")["to"],
        json!([
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
            {"ipBlock": {"cidr": "::/0"}},
        ])
    );
    assert_eq!(
        blocks("everything"),
        json!({
            "to": [
                {"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.128/25"]}},
                {"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}},
            ],
            "ports": [{"port": 443}, {"port": 8443}],
        })
    );
}
