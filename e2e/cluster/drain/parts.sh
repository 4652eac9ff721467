# What e2e/cluster/test-drain tests, one function for each thing. Sourced by it after
# chart/parts.sh, not run.

NAMESPACE=drain-test
SECONDS_OF_A_STREAM=45
# With DRAIN, pods end well before a stream would be cut by them.
DRAIN=120
settings=(--set image.registry=localhost --set image.tag=test --set demo.enabled=true)
settings+=(--set redis.bundled.enabled=true --set redis.bundled.image=localhost/redis:test --set rbac.aggregatedRoles=false)
# A machine that is busy is not to be taken for a Redis that is gone.
settings+=(--set redis.timeout=2s)
settings+=(--set dataPlane.drainSeconds=$DRAIN --set dataPlane.deregisterSeconds=5 --set dataPlane.resources.requests.cpu=50m)

planes() { kubectl get pods -l app.kubernetes.io/name=relay-dataplane "$@"; }
# read_json FILE EXPRESSION: what Python says of the file's content, `it`.
read_json() { python3 -c 'import json, sys; it = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

remove() {
  helm uninstall relay --ignore-not-found >/dev/null 2>&1
  cluster kubectl delete namespace $NAMESPACE --ignore-not-found --timeout=300s >/dev/null
}

# is_applied: whether the operator knows that two data planes hold everything that there is.
is_applied() { kubectl wait --for=condition=Ready rdp,relaykeys --all --timeout=1s; }

begin() {
  cluster helm upgrade --install relay-crds charts/relay-crds --namespace relay-crds --create-namespace >/dev/null
  namespace $NAMESPACE
  helm install relay charts/relay "${settings[@]}" >/dev/null
  sed "s/\${CONCURRENCY}/$((streams + streams / 10))/" e2e/cluster/drain/objects.yaml | kubectl apply -f - >/dev/null
  kubectl patch deployment relay-demo --type=json \
    -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--delay=1s"}]' >/dev/null
  kubectl rollout status deployment/relay-demo --timeout=120s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=120s >/dev/null
  eventually 120 is_applied
  address=$(kubectl get service relay -o jsonpath='{.spec.clusterIP}')
  RELAY_STREAMS_TOKEN=$(token streams) RELAY_REQUESTS_TOKEN=$(token requests)
  export RELAY_STREAMS_TOKEN RELAY_REQUESTS_TOKEN
}

# metric NAME: its sum over the data planes that are there.
metric() {
  local pod
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    cluster curl -sS --max-time 5 "http://$pod:8081/metrics" || true
  done | awk -v name="$1" '$1 ~ "^" name "([{]|$)" { sum += $NF } END { print sum + 0 }'
}
is_quiet() { [ "$(metric relay_requests_in_flight)" = 0 ]; }
are_open() { [ "$(metric relay_streams_open)" -ge "$1" ]; }

load() { cluster python3 e2e/cluster/drain/load.py --seconds $SECONDS_OF_A_STREAM "$@" "http://$address" demo-chat; }

start_load() {
  cluster python3 e2e/cluster/drain/usage.py --until "$scratch/read" $NAMESPACE >"$scratch/usage" &
  usage=$!
  load --streams "$streams" --every 0.02 --until "$scratch/enough" >"$scratch/load" &
  load=$!
  eventually 60 are_open "$((streams * 9 / 10))"
  echo "$(metric relay_streams_open) streams are open"
}

disturb() {
  local first old
  old=$(planes -o jsonpath='{.items[*].metadata.name}')
  kubectl rollout restart deployment/relay-dataplane >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=180s >/dev/null
  echo "data planes are replaced; $(planes --no-headers | grep -c Terminating) drain"
  kubectl rollout restart deployment/relay-operator >/dev/null
  kubectl rollout status deployment/relay-operator --timeout=180s >/dev/null
  # Until then streams are with data planes that drain; those that follow are with the new ones.
  # shellcheck disable=SC2086
  kubectl wait --for=delete pod $old --timeout=240s >/dev/null
  echo "operators are replaced; $(metric relay_streams_open) streams are open"
  first=$(planes -o json | python3 -c '
import json, sys
print(next(pod["metadata"]["name"] for pod in json.load(sys.stdin)["items"] if "deletionTimestamp" not in pod["metadata"]))')
  kubectl create --raw "/api/v1/namespaces/$NAMESPACE/pods/$first/eviction" -f - >/dev/null \
    <<<"{\"apiVersion\": \"policy/v1\", \"kind\": \"Eviction\", \"metadata\": {\"name\": \"$first\"}}"
  echo "a data plane is evicted"
  kubectl wait --for=delete "pod/$first" --timeout=240s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=180s >/dev/null
  ended=($old "$first")
  echo "all that were to go are gone"
}

stop_load() {
  local pod
  touch "$scratch/enough"
  wait $load || fail "the load ended with $?"
  # So that records have been written, and read.
  eventually 30 is_quiet
  touch "$scratch/read"
  wait $usage || fail "usage.py ended with $?"
  cat "$scratch/load" "$scratch/usage"
  for pod in "${ended[@]}"; do
    is 0 read_json "$scratch/usage" "it['codes'].get('$pod')"
  done
}

# books_agree: nothing failed, and what clients counted is what data planes wrote down.
books_agree() {
  local key
  for key in streams requests; do
    is "{}" read_json "$scratch/load" "it['$key']['failed']"
    is "$(read_json "$scratch/load" "[it['$key'][field] for field in ('ended', 'input', 'output')] + [0, 0, 0]")" \
      read_json "$scratch/usage" \
      "[it['keys']['$NAMESPACE/$key'][field] for field in ('records', 'input', 'output', 'twice', 'errors', 'cancelled')]"
  done
  is 0 read_json "$scratch/load" "it['requests']['again']"
  is 0 metric relay_limit_reservations_live
  is 0 metric relay_limit_degraded_requests_total
}

# slots_are_free: as many streams as the limit allows begin at once, which they could not if one slot had been lost; one more
# is refused.
slots_are_free() {
  local limit=$((streams + streams / 10)) load
  SECONDS_OF_A_STREAM=15 load --once --streams "$limit" >"$scratch/slots" &
  load=$!
  eventually 30 are_open "$limit"
  says "the limit of $limit requests at once of policy \`streams\` is reached" ask streams
  wait $load
  is "[{}, $limit]" read_json "$scratch/slots" "[it['streams']['failed'], it['streams']['ended']]"
}

# ask KEY: what is said to one request.
ask() {
  cluster curl -sS --max-time 30 "http://$address/v1/chat/completions" -H "authorization: Bearer $(token "$1")" \
    -d '{"model": "demo-chat", "messages": [{"role": "user", "content": "Hello, Relay"}]}'
}

# answers KEY: whether a request is answered.
answers() { [[ "$(ask "$1")" == *'You said: \"Hello, Relay\"'* ]]; }

without_operator() {
  kubectl scale deployment/relay-operator --replicas=0 >/dev/null
  kubectl wait --for=delete pod -l app.kubernetes.io/name=relay-operator --timeout=120s >/dev/null
}

operator_returns() {
  local started=$SECONDS
  kubectl scale deployment/relay-operator --replicas=2 >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=120s >/dev/null
  eventually 120 is_applied
  echo "the operator is back, and all is as it should be after $((SECONDS - started)) s"
}

# start_from_redis: without an operator all data planes are replaced, and the new ones know what the old ones did.
start_from_redis() {
  local old
  without_operator
  old=$(planes -o jsonpath='{.items[*].metadata.name}')
  # shellcheck disable=SC2086
  kubectl delete pod $old --timeout=240s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=120s >/dev/null
  answers requests || fail "no answer from the table in Redis: $(ask requests)"
  operator_returns
  kubectl apply -f e2e/cluster/drain/later.yaml >/dev/null
  eventually 60 answers later
}

# start_from_nothing: a data plane that has no table, nor a copy of one, says so, gets no request, and takes one when it can.
start_from_nothing() {
  local pod
  helm upgrade relay charts/relay "${settings[@]}" --set redis.bundled.enabled=false --force-conflicts >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=240s >/dev/null
  eventually 120 is_applied
  without_operator
  pod=$(planes --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  kubectl delete pod "$pod" --timeout=240s >/dev/null
  eventually 60 has_no_table
  for _ in {1..20}; do answers requests || fail "no answer beside a data plane that has no table: $(ask requests)"; done
  operator_returns
}

# has_no_table: whether a data plane says that it has none.
has_no_table() {
  local pod
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    [ "$(cluster curl -sS --max-time 5 "http://$pod:8081/readyz")" != "not ready: no routing table yet" ] || return 0
  done
  return 1
}
