# What e2e/cluster/test-sidecar tests, one function for each thing. Sourced by it, not run.

NAMESPACE=sidecar-test TEAM=sidecar-test-team UNASKED=sidecar-test-unasked
TAG="${RELAY_E2E_TAG:-test}"
python="$RELAY_CACHE/clients/newest/bin/python"

helm() { cluster helm --namespace $NAMESPACE "$@"; }
platform() { cluster kubectl --namespace $NAMESPACE "$@"; }
team() { cluster kubectl --namespace $TEAM "$@"; }

# since TIME: seconds that have passed, with one digit.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# show: what is the matter with the pods, for whoever reads of a failure.
show() {
  local namespace
  for namespace in $NAMESPACE $TEAM; do
    cluster kubectl --namespace $namespace get pods -o wide
    cluster kubectl --namespace $namespace get events --sort-by=.lastTimestamp | tail -n 20
  done
  platform logs --all-containers --prefix --tail=10 -l app.kubernetes.io/part-of=relay
  team logs --all-containers --prefix --tail=10 -l llmrelay.io/inject=true
} >&2

# objects NAME: manifests of this folder, for the namespaces and images of this run.
objects() {
  local text
  text=$(<"e2e/cluster/sidecar/$1.yaml")
  text="${text//\$\{NAMESPACE\}/$NAMESPACE}"
  echo "${text//\$\{TAG\}/$TAG}"
}

# pack_application: makes the image of an application that has a Python with the official SDKs.
pack_application() {
  "$python" e2e/cluster/sidecar/pack_client.py "$scratch/application" e2e/cluster/sidecar/application.py
  scripts/pack --file e2e/cluster/images/Containerfile --uncompressed --target application "$scratch" \
    "localhost/application:$TAG" "$scratch/application.tar" >/dev/null
}

begin() {
  local started=$EPOCHREALTIME namespace
  for namespace in $NAMESPACE $TEAM $UNASKED; do
    cluster kubectl create namespace $namespace >/dev/null
    cluster kubectl label namespace $namespace pod-security.kubernetes.io/enforce=restricted >/dev/null
  done
  cluster kubectl label namespace $TEAM llmrelay.io/inject=enabled >/dev/null
  cluster kubectl apply --server-side --force-conflicts -f crds/yaml >/dev/null
  cluster kubectl wait --for=condition=Established -f crds/yaml --timeout=300s >/dev/null
  helm install relay charts/relay --set image.registry=localhost --set "image.tag=$TAG" --set demo.enabled=true \
    --set rbac.aggregatedRoles=false --set sidecars.enabled=true --set "watchNamespaces={$TEAM,$UNASKED}" \
    --set dataPlane.drainSeconds=5 --set dataPlane.deregisterSeconds=2 >/dev/null
  objects platform | platform apply -f - >/dev/null
  objects team | team apply -f - >/dev/null
  platform wait --for=condition=Ready rdp/relay --timeout=400s >/dev/null || { show; fail "the data planes are not ready"; }
  platform wait --for=condition=Available deployments --all --timeout=300s >/dev/null || { show; fail "pods are not ready"; }
  team wait --for=condition=Ready hostkeys,models,policies,relaykeys --all --timeout=300s >/dev/null || { show; fail "objects are not ready"; }
  echo "all is ready after $(since "$started") s"
}

# answers NAME NUMBER: whether the application's pods have had so many answers.
answers() { [ "$(team logs "deployment/$1" -c application | grep -c 'You said')" -ge "$2" ]; }

# none_failed NAME: fails if a request of the application was not answered.
none_failed() {
  local failed
  failed=$(team logs "deployment/$1" -c application | grep FAILED || true)
  [ -z "$failed" ] || { show; fail "$1: $failed"; }
}

deployments_get_answers() {
  local started=$EPOCHREALTIME name
  objects applications | team apply -f - >/dev/null
  team wait --for=condition=Available deployment --all --timeout=300s >/dev/null || { show; fail "applications do not start"; }
  echo "applications and their sidecars are available after $(since "$started") s"
  for name in own shared; do
    eventually 180 answers $name 8 || { show; fail "$name gets no answers"; }
    for shape in openai anthropic; do
      says "${shape}_plain: You said" team logs deployment/$name -c application
      says "${shape}_streamed: You said" team logs deployment/$name -c application
    done
    none_failed $name
  done
  # What was applied says nothing of it.
  is "" team get deployment own -o jsonpath='{.spec.template.spec.containers[0].env}{.spec.template.spec.initContainers}'
  echo "both SDKs are answered in both pods, plain and streamed, by their defaults"
}

a_job_completes() {
  local pod
  team wait --for=condition=Complete job/once --timeout=300s >/dev/null || { show; fail "the Job does not complete"; }
  pod=$(team get pod -l app=once -o name)
  is Succeeded team get "$pod" -o jsonpath='{.status.phase}'
  says "anthropic_streamed: You said" team logs "$pod" -c before
  says "anthropic_streamed: You said" team logs "$pod" -c application
  is "relay 0" team get "$pod" -o jsonpath='{.status.initContainerStatuses[0].name} {.status.initContainerStatuses[0].state.terminated.exitCode}'
  echo "the Job is complete, its pod Succeeded, its sidecar ended with code 0; an init container was answered too"
}

# records KEY LOGS...: how many usage records of a relay key of the team are in what the command prints.
records() { "${@:2}" | grep -c "\"relay_key\":\"$TEAM/$1\"" || true; }
of_data_planes() { platform logs -l app.kubernetes.io/name=relay-dataplane -c dataplane --tail=-1; }
of_sidecar() { team logs "deployment/$1" -c relay --tail=-1; }

each_is_served_where_it_should_be() {
  local before passed
  # Until its first table a sidecar passes everything on.
  eventually 180 served_by_own_sidecar
  before=$(records own of_data_planes)
  served=$(records own of_sidecar own)
  eventually 180 served_by_own_sidecar $((served + 20))
  is "$before" records own of_data_planes
  is 0 records shared of_sidecar shared
  passed=$(records shared of_data_planes)
  [ "$passed" -ge 8 ] || fail "the data planes have $passed records of the key that is passed on"
  says "\"host_key\":\"$TEAM/own\"" of_sidecar own
  says "\"host_key\":\"$NAMESPACE/platform\"" of_data_planes
  echo "served by the sidecar: $(records own of_sidecar own), of the same key by data planes: $before; passed on: $passed"
}
served_by_own_sidecar() { [ "$(records own of_sidecar own)" -ge "${1:-1}" ]; }

without_consent_nothing_changes() {
  local pod
  pod=$(objects pod)
  cluster kubectl --namespace $UNASKED apply -f - <<<"$pod" >/dev/null
  is "" cluster kubectl --namespace $UNASKED get pod asking -o jsonpath='{.spec.initContainers[?(@.name=="relay")].name}{.spec.containers[*].env}{.spec.volumes[?(@.name=="relay")].name}'
  # The same pod where consent is.
  is "relay relay" team create --dry-run=server -o jsonpath='{.spec.initContainers[?(@.name=="relay")].name} {.spec.volumes[?(@.name=="relay")].name}' -f - <<<"$pod"
  is "" cluster kubectl --namespace $UNASKED get configmap relay-push-ca --ignore-not-found -o name
  echo "the pod of a namespace without consent is as it was written"
}

# fed NAMESPACE POD ACCOUNT: what an operator sends to whoever shows a token of that pod, as a data plane holds it: its host keys,
# relay keys and credentials.
fed() {
  local uid
  cluster kubectl --namespace "$1" create token "$3" --audience relay-push.llmrelay.io --duration 10m \
    --bound-object-kind Pod --bound-object-name "$2" >"$scratch/token"
  team get configmap relay-push-ca -o jsonpath='{.data.ca\.crt}' >"$scratch/ca.crt"
  uid=$(cluster kubectl --namespace "$1" get pod "$2" -o jsonpath='{.metadata.uid}')
  cluster sh -c 'echo $$ >"$0" && exec "$@"' "$scratch/pid" "$archives/context/programs/relay-dataplane" --listen 127.0.0.1:0 --admin 127.0.0.1:18081 --fleet relay \
    --operator "relay-operator.$NAMESPACE.svc:9443" --operator-ca "$scratch/ca.crt" --operator-token-file "$scratch/token" \
    --pod-name "$2" --pod-uid "$uid" --pod-namespace "$1" >"$scratch/fed" 2>&1 &
  eventually 180 cluster curl -sSf http://127.0.0.1:18081/readyz || { cat "$scratch/fed" >&2; return 1; }
  cluster curl -sSf http://127.0.0.1:18081/debug/table >"$scratch/table"
  cluster curl -sSf http://127.0.0.1:18081/debug/credentials >"$scratch/credentials"
  kill -9 "$(<"$scratch/pid")" && rm "$scratch/pid"
  wait
  "$python" e2e/cluster/sidecar/fed.py "$scratch/table" "$scratch/credentials"
}

feed_holds_nothing_of_others() {
  local pod gets everything
  # A whole data plane that says it is of the fleet, with the token of an application's pod.
  pod=$(team get pod -l app=shared -o jsonpath='{.items[0].metadata.name}')
  gets="host keys: $TEAM/own; credentials: $TEAM/own; relay keys: $TEAM/own"
  is "$gets" fed $TEAM "$pod" default
  echo "a token of a pod of the team gets $gets"
  # The same with the token of a data plane finds what there is to be found.
  pod=$(platform get pod -l app.kubernetes.io/name=relay-dataplane -o jsonpath='{.items[0].metadata.name}')
  everything=$(fed $NAMESPACE "$pod" relay-dataplane)
  [[ "$everything" == *"host keys: "*"$NAMESPACE/platform"*"credentials: "*"$NAMESPACE/platform"*"relay keys"* ]] || fail "a data plane's token gets $everything"
}

tokens_are_replaced() {
  local started pod
  pod=$(team get pod -l app=own -o jsonpath='{.items[0].metadata.name}')
  started=$(date -d "$(team get pod "$pod" -o jsonpath='{.status.startTime}')" +%s)
  # Tokens are good for 600 s, and the kubelet replaces them after 480.
  sleep $((started + 660 - $(date +%s)))
  is "$pod" team get pod -l app=own -o jsonpath='{.items[0].metadata.name}'
  objects later | team apply -f - >/dev/null
  # Only a sidecar whose stream lives on hears of it: its key is served here, and so is its refusal.
  eventually 180 team exec "$pod" -c application -- /python/bin/python3 /application.py later-chat
  none_failed own
  none_failed shared
  echo "$(($(date +%s) - started)) s after its start a sidecar hears of a new Model; requests meanwhile: \
$(team logs "$pod" -c application | grep -c 'You said') and $(team logs deployment/shared -c application | grep -c 'You said') answered, none failed"
}

remove() {
  helm uninstall relay --ignore-not-found >/dev/null 2>&1 || true
  cluster kubectl delete namespace $NAMESPACE $TEAM $UNASKED --ignore-not-found --timeout=300s >/dev/null
}
