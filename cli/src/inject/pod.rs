//! A pod with a data plane beside its containers. The same as the chart's `templates/sidecar.yaml`: a test compares both.

use serde_json::{Value, json};

use super::{
    asked::{Asked, asked},
    sidecar::{NAME, Sidecar},
};

/// What becomes of a pod.
#[derive(Debug, PartialEq)]
pub(super) enum Injected {
    /// It asks for nothing.
    Unasked,
    /// Its label has a value that means nothing.
    Unclear(String),
    /// It asks for a sidecar, and has all that belongs to it.
    Already,
    /// As it is to be.
    Pod(Value),
}

/// What becomes of a pod or a pod's template, which has `metadata` and `spec`. The error says why it cannot have a sidecar.
pub(super) fn injected(pod: &Value, sidecar: &Sidecar) -> Result<Injected, String> {
    let (port, token) = match asked(&pod["metadata"])? {
        Asked::Nothing => return Ok(Injected::Unasked),
        Asked::Unclear(value) => return Ok(Injected::Unclear(value)),
        Asked::Sidecar { port, token } => (port.unwrap_or(sidecar.port), token),
    };
    let stands = stands(&pod["spec"]);
    if !stands {
        check(&pod["spec"])?;
    }
    let mut new = pod.clone();
    let spec = &mut new["spec"];
    let env = env(port, token.as_ref());
    for container in list(spec, "containers")?.iter_mut() {
        set(container, &env)?;
    }
    let before = list(spec, "initContainers")?;
    for container in before.iter_mut().filter(|container| !is_sidecar(container)) {
        set(container, &env)?;
    }
    if !stands {
        // First of the init containers, so that the others can use it too.
        before.insert(0, sidecar.container(port));
        list(spec, "volumes")?.push(sidecar.volume());
    }
    Ok(if new == *pod { Injected::Already } else { Injected::Pod(new) })
}

/// Whether the sidecar is there.
fn stands(spec: &Value) -> bool {
    spec["initContainers"].as_array().into_iter().flatten().any(is_sidecar)
}

fn is_sidecar(container: &Value) -> bool {
    container["name"] == NAME && container["restartPolicy"] == "Always"
}

/// Why a pod cannot have a sidecar.
fn check(spec: &Value) -> Result<(), String> {
    if spec["hostNetwork"] == true {
        return Err("spec.hostNetwork is true: the sidecar would listen on the loopback of the node".to_owned());
    }
    if spec["containers"].as_array().is_none_or(Vec::is_empty) {
        return Err("spec.containers is empty".to_owned());
    }
    for field in ["containers", "initContainers", "volumes"] {
        let items = spec[field].as_array().into_iter().flatten();
        if let Some(at) = items.into_iter().position(|item| item["name"] == NAME) {
            return Err(format!("spec.{field}[{at}].name is `{NAME}`, the name that the sidecar has: give it another"));
        }
    }
    Ok(())
}

/// What each container gets, unless it sets it itself.
fn env(port: u16, token: Option<&(String, String)>) -> Vec<Value> {
    let url = |path: &str| format!("http://127.0.0.1:{port}/{path}");
    let mut env = vec![
        json!({"name": "OPENAI_BASE_URL", "value": url("openai/v1")}),
        json!({"name": "ANTHROPIC_BASE_URL", "value": url("anthropic")}),
    ];
    if let Some((secret, key)) = token {
        let from = json!({"secretKeyRef": {"name": secret, "key": key}});
        let names = ["OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN"];
        env.extend(names.map(|name| json!({"name": name, "valueFrom": from})));
    }
    env
}

fn set(container: &mut Value, env: &[Value]) -> Result<(), String> {
    if !container.is_object() {
        return Err(format!("a container is {container}, and should be a map of fields"));
    }
    let own = list(container, "env")?;
    for variable in env {
        if !own.iter().any(|other| other["name"] == variable["name"]) {
            own.push(variable.clone());
        }
    }
    Ok(())
}

/// The list of this name, which is there afterwards.
fn list<'a>(of: &'a mut Value, name: &str) -> Result<&'a mut Vec<Value>, String> {
    let found = &mut of[name];
    if found.is_null() {
        *found = Value::Array(Vec::new());
    }
    match found {
        Value::Array(items) => Ok(items),
        other => Err(format!("{name} is {other}, and should be a list")),
    }
}

#[cfg(test)]
mod tests {
    use crds::{INJECT_LABEL, PORT_ANNOTATION, RELAY_KEY_ANNOTATION};

    use super::*;

    fn asking(spec: Value) -> Value {
        json!({"metadata": {"labels": {INJECT_LABEL: "true"}, "annotations": {RELAY_KEY_ANNOTATION: "app"}}, "spec": spec})
    }

    fn pod(of: &Value) -> Value {
        match injected(of, &Sidecar::default()).unwrap() {
            Injected::Pod(pod) => pod,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_that_does_not_ask_is_left_alone() {
        let sidecar = Sidecar::default();
        let of = |pod: Value| injected(&pod, &sidecar).unwrap();
        assert_eq!(of(json!({"spec": {"containers": []}})), Injected::Unasked);
        let unclear = json!({"metadata": {"labels": {INJECT_LABEL: "yes"}}});
        assert_eq!(of(unclear), Injected::Unclear("yes".to_owned()));
    }

    #[test]
    fn containers_keep_what_they_set_and_get_the_rest() {
        let own = json!([{"name": "OPENAI_API_KEY", "value": "own"}, {"name": "ANTHROPIC_BASE_URL", "value": ""}]);
        let pod = pod(&asking(json!({"containers": [{"name": "a", "env": own}], "initContainers": [{"name": "b"}]})));
        let from = json!({"secretKeyRef": {"name": "app-token", "key": "token"}});
        let (url, token) = (
            json!({"name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:8080/openai/v1"}),
            json!({"name": "ANTHROPIC_AUTH_TOKEN", "valueFrom": from}),
        );
        assert_eq!(pod["spec"]["containers"][0]["env"], json!([own[0], own[1], url, token]));
        let all = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
        let names: Vec<_> = all.iter().map(|each| each["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENAI_API_KEY", "ANTHROPIC_AUTH_TOKEN"]);
        assert_eq!(pod["spec"]["initContainers"][0]["name"], NAME);
    }

    #[test]
    fn twice_is_once() {
        let once = pod(&asking(json!({"containers": [{"name": "a"}]})));
        assert_eq!(injected(&once, &Sidecar::default()), Ok(Injected::Already));
        // Another image: what is there stays.
        let mut other = Sidecar::default();
        other.image = "other".to_owned();
        assert_eq!(injected(&once, &other), Ok(Injected::Already));
    }

    #[test]
    fn a_pod_may_move_relay_to_other_ports() {
        let mut asking = asking(json!({"containers": [{"name": "a"}]}));
        asking["metadata"]["annotations"][PORT_ANNOTATION] = json!("9000");
        let pod = pod(&asking);
        let sidecar = &pod["spec"]["initContainers"][0];
        let args: Vec<_> = sidecar["args"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(args.contains(&"--listen=127.0.0.1:9000") && args.contains(&"--admin=127.0.0.1:9001"), "{args:?}");
        assert_eq!(sidecar["readinessProbe"]["exec"]["command"][2], "--admin=127.0.0.1:9001");
        assert_eq!(pod["spec"]["containers"][0]["env"][0]["value"], "http://127.0.0.1:9000/openai/v1");
    }

    #[test]
    fn a_pod_that_cannot_have_a_sidecar_is_told_why() {
        let wrong = [
            (json!({"containers": []}), "spec.containers is empty"),
            (json!({}), "spec.containers is empty"),
            (json!({"hostNetwork": true, "containers": [{"name": "a"}]}), "spec.hostNetwork"),
            (json!({"containers": [{"name": "a"}, {"name": "relay"}]}), "spec.containers[1].name is `relay`"),
            (json!({"containers": [{"name": "a"}], "initContainers": [{"name": "relay"}]}), "spec.initContainers[0]"),
            (json!({"containers": [{"name": "a"}], "volumes": [{"name": "relay"}]}), "spec.volumes[0].name"),
            (json!({"containers": ["a"]}), "a container is \"a\""),
            (json!({"containers": [{"name": "a", "env": {"A": "b"}}]}), "env is {\"A\":\"b\"}, and should be a list"),
        ];
        for (spec, words) in wrong {
            let error = injected(&asking(spec), &Sidecar::default()).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
