# What e2e/cluster/test-drain tests, one function for each thing. Sourced by it after
# chart/parts.sh, not run.

NAMESPACE=drain-test
settings=(--set image.registry=localhost --set image.tag=test --set demo.enabled=true --set rbac.aggregatedRoles=false)
settings+=(--set "redis.url=redis://sentinel-0.sentinel.$NAMESPACE.svc:26379\,sentinel-1.sentinel.$NAMESPACE.svc:26379")
settings+=(--set redis.mode=sentinel --set redis.sentinelMaster=relay)
# A machine that is busy is not to be taken for a Redis that is gone.
settings+=(--set redis.timeout=2s)
# A slot is given back a moment after its stream has ended, when the next one has begun already.
spare=50
# Pods end well before a stream would be cut by them.
settings+=(--set dataPlane.drainSeconds=$((words * 2 + 30)))
settings+=(--set dataPlane.resources.requests.cpu=50m)

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
  local set
  cluster helm upgrade --install relay-crds charts/relay-crds --namespace relay-crds --create-namespace >/dev/null
  namespace $NAMESPACE
  kubectl create configmap redis --from-file=e2e/cluster/drain/redis >/dev/null
  kubectl apply -f e2e/cluster/drain/redis.yaml >/dev/null
  for set in redis sentinel; do
    kubectl rollout status statefulset/$set --timeout=300s >/dev/null || { kubectl get pods && kubectl logs $set-0 && fail "$set"; }
  done
  helm install relay charts/relay "${settings[@]}" >/dev/null
  sed "s/\${CONCURRENCY}/$((streams + spare))/" e2e/cluster/drain/objects.yaml | kubectl apply -f - >/dev/null
  kubectl patch deployment relay-demo --type=json \
    -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--delay='$pace'"}]' >/dev/null
  kubectl rollout status deployment/relay-demo --timeout=300s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null
  eventually 120 is_applied
  address=$(kubectl get service relay -o jsonpath='{.spec.clusterIP}')
  RELAY_STREAMS_TOKEN=$(token streams) RELAY_REQUESTS_TOKEN=$(token requests)
  export RELAY_STREAMS_TOKEN RELAY_REQUESTS_TOKEN
}

# metric NAME [LABEL]: its sum over the data planes that are there, of all its series or of those with the label.
metric() {
  local pod
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    cluster curl -sS --max-time 30 "http://$pod:8081/metrics" || true
  done | awk -v name="$1" -v label="${2:-}" '$1 ~ "^" name "([{]|$)" && index($1, label) { sum += $NF } END { printf "%.0f\n", sum }'
}
is_quiet() { [ "$(metric relay_requests_in_flight)" = 0 ]; }
are_open() { [ "$(metric relay_streams_open)" -ge "$1" ]; }

load() { cluster python3 e2e/cluster/drain/load.py "$@" "http://$address" demo-chat; }

# takes WHEN: says what pods take, beside what the chart asks for. They must not take more memory.
takes() {
  echo "$1:"
  eventually 180 is_known_what_they_take
  is_known_what_they_take
}
is_known_what_they_take() { cluster python3 e2e/cluster/drain/takes.py $NAMESPACE operator=100 dataplane=500; }

start_load() {
  cluster python3 e2e/cluster/drain/usage.py --until "$scratch/read" $NAMESPACE >"$scratch/usage" &
  usage=$!
  load --streams "$streams" --words "$words" --every 0.02 --until "$scratch/enough" >"$scratch/load" &
  load=$!
  eventually 180 are_open "$((streams * 9 / 10))"
  echo "$(metric relay_streams_open) streams are open"
}

disturb() {
  local first old
  old=$(planes -o jsonpath='{.items[*].metadata.name}')
  kubectl rollout restart deployment/relay-dataplane >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null
  echo "data planes are replaced; $(planes --no-headers | grep -c Terminating) drain"
  kubectl rollout restart deployment/relay-operator >/dev/null
  kubectl rollout status deployment/relay-operator --timeout=400s >/dev/null
  # Until then streams are with data planes that drain; those that follow are with the new ones.
  # shellcheck disable=SC2086
  kubectl wait --for=delete pod $old --timeout=400s >/dev/null
  echo "operators are replaced; $(metric relay_streams_open) streams are open"
  first=$(planes -o json | python3 -c '
import json, sys
print(next(pod["metadata"]["name"] for pod in json.load(sys.stdin)["items"] if "deletionTimestamp" not in pod["metadata"]))')
  kubectl create --raw "/api/v1/namespaces/$NAMESPACE/pods/$first/eviction" -f - >/dev/null \
    <<<"{\"apiVersion\": \"policy/v1\", \"kind\": \"Eviction\", \"metadata\": {\"name\": \"$first\"}}"
  echo "a data plane is evicted"
  kubectl wait --for=delete "pod/$first" --timeout=400s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null
  ended=($old "$first")
  echo "all that were to go are gone"
}

# master: whom the sentinels hold for the master of Redis.
master() { kubectl exec sentinel-0 -- /etc/redis/master 127.0.0.1; }
# have_redis: whether both data planes count in Redis.
have_redis() { [ "$(metric relay_redis_up)" = 2 ]; }

# replace_redis: both servers and all sentinels. Whoever asks while the master changes is served as `redisOutage` says: here
# each data plane counts by itself, and adds that when the new master is there.
replace_redis() {
  local before degraded
  is 0 metric relay_limit_degraded_requests_total
  before=$(master)
  kubectl rollout restart statefulset/redis >/dev/null
  kubectl rollout status statefulset/redis --timeout=400s >/dev/null
  [ "$(master)" != "$before" ] || fail "the master is still $before"
  kubectl rollout restart statefulset/sentinel >/dev/null
  kubectl rollout status statefulset/sentinel --timeout=400s >/dev/null
  eventually 180 have_redis
  degraded=$(metric relay_limit_degraded_requests_total)
  echo "servers and sentinels of Redis are replaced, and the master is another one; $degraded requests were decided without it"
}

# kill_server POD: ends the pod's server of Redis as a crash does.
kill_server() {
  # shellcheck disable=SC2016
  inside sh -euc 'for process in $(pgrep -x redis-server); do
    [ "$(nsenter --target $process --uts hostname)" != "$0" ] || kill -KILL $process
  done' "$1"
}
has_another_master() { local now && now=$(master) && [ "$now" != "$1" ]; }
# cost KEY: billionths of a dollar that its requests have cost, say data planes.
cost() { metric relay_key_cost_nano_usd_total "relay_key=\"$NAMESPACE/$1\""; }

# kill_redis: the master. Requests go on; what its replica had not received is forgotten, which is what was settled within less
# than a second, and nothing is counted twice.
kill_redis() {
  local before degraded started=$SECONDS key lost
  local -A paid counted most=([streams]=$((streams / 10 * 132000)) [requests]=$((50 * 77000)))
  eventually 180 is_quiet
  for key in streams requests; do
    paid[$key]=$(cost $key) counted[$key]=$(spent $key)
  done
  rm "$scratch/enough"
  load --streams "$streams" --words "$words" --every 0.02 --until "$scratch/enough" >"$scratch/load" &
  load=$!
  eventually 180 are_open "$((streams * 9 / 10))"
  before=$(master) degraded=$(metric relay_limit_degraded_requests_total) started=$SECONDS
  kill_server "${before%%.*}"
  eventually 180 has_another_master "$before"
  eventually 180 have_redis
  degraded=$(($(metric relay_limit_degraded_requests_total) - degraded))
  echo "the master was killed, another one is used after $((SECONDS - started)) s; $degraded requests were decided without it"
  [ $degraded -gt 0 ] || fail "they should not have been all decided with a Redis that is gone"
  touch "$scratch/enough"
  wait $load || fail "the load ended with $?"
  eventually 180 is_quiet
  eventually 180 has_settled
  for key in streams requests; do
    is "{}" read_json "$scratch/load" "it['$key']['failed']"
    lost=$(($(cost $key) - ${paid[$key]} - $(spent $key) + ${counted[$key]}))
    echo "of $(($(cost $key) - ${paid[$key]})) billionths of a dollar of key $key, $lost are forgotten"
    [ $lost -ge 0 ] && [ $lost -le ${most[$key]} ] || fail "between 0 and ${most[$key]} may be"
  done
}
has_settled() { [ "$(metric relay_limit_reservations_live)" = 0 ]; }

stop_load() {
  local pod
  touch "$scratch/enough"
  wait $load || fail "the load ended with $?"
  # So that records have been written, and read.
  eventually 180 is_quiet
  touch "$scratch/read"
  wait $usage || fail "usage.py ended with $?"
  cat "$scratch/load" "$scratch/usage"
  for pod in "${ended[@]}"; do
    is 0 read_json "$scratch/usage" "it['codes'].get('$pod')"
  done
}

# books_agree: nothing failed, and what clients counted is what data planes wrote down, and what Redis holds.
books_agree() {
  local key
  for key in streams requests; do
    is "{}" read_json "$scratch/load" "it['$key']['failed']"
    is "$(read_json "$scratch/load" "[it['$key'][field] for field in ('ended', 'input', 'output')] + [0, 0, 0]")" \
      read_json "$scratch/usage" \
      "[it['keys']['$NAMESPACE/$key'][field] for field in ('records', 'input', 'output', 'twice', 'errors', 'cancelled')]"
    eventually 180 has_spent "$(read_json "$scratch/usage" "it['keys']['$NAMESPACE/$key']['cost_nano_usd']")" $key
  done
  is 0 read_json "$scratch/load" "it['requests']['again']"
  is 0 metric relay_limit_reservations_live
}

# spent KEY: how many billionths of a dollar the key has spent, says Redis.
spent() {
  cluster curl -sS --max-time 30 "http://$address/v1/usage" -H "authorization: Bearer $(token "$1")" |
    python3 -c 'import json, sys; print(*(limit["used"] for limit in json.load(sys.stdin)["limits"] if limit["rule"] == "budget_total"))'
}
# has_spent COST KEY: whether it is that.
has_spent() {
  local spent
  spent=$(spent "$2")
  [ "$spent" = "$1" ] || { echo "key $2 has spent $spent, and should have spent $1" && return 1; }
}

# slots_are_free: as many streams as the limit allows begin at once, which they could not if one slot had been lost; one more
# is refused.
slots_are_free() {
  local limit=$((streams + spare)) load
  load --once --streams "$limit" --words 15 >"$scratch/slots" &
  load=$!
  eventually 180 are_open "$limit"
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
  kubectl wait --for=delete pod -l app.kubernetes.io/name=relay-operator --timeout=300s >/dev/null
}

operator_returns() {
  local started=$SECONDS
  kubectl scale deployment/relay-operator --replicas=2 >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null
  eventually 120 is_applied
  echo "the operator is back, and all is as it should be after $((SECONDS - started)) s"
}

# have_been_alone SECONDS: whether all data planes have heard of no operator for so long.
have_been_alone() {
  local pod age
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    age=$(cluster curl -sS --max-time 30 "http://$pod:8081/metrics" | sed -n 's/^relay_config_age_seconds //p')
    echo "$pod: $age s"
    awk -v age="${age:-0}" -v least="$1" 'BEGIN { exit age < least }' || return
  done
}

# start_from_redis: without an operator all data planes are replaced, and the new ones know what the old ones did.
start_from_redis() {
  local old
  without_operator
  eventually 300 have_been_alone "$alone"
  old=$(planes -o jsonpath='{.items[*].metadata.name}')
  # shellcheck disable=SC2086
  kubectl delete pod $old --timeout=400s >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null
  answers requests || fail "no answer from the table in Redis: $(ask requests)"
  operator_returns
  kubectl apply -f e2e/cluster/drain/later.yaml >/dev/null
  eventually 180 answers later
}

# start_from_nothing: a data plane that has no table, nor a copy of one, says so, gets no request, and takes one when it can.
start_from_nothing() {
  local pod
  helm upgrade relay charts/relay "${settings[@]}" --set redis.url= --force-conflicts >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null
  eventually 120 is_applied
  # A pod that ends already is not one to be replaced.
  eventually 120 settled
  without_operator
  pod=$(planes --field-selector=status.phase=Running -o jsonpath='{.items[0].metadata.name}')
  kubectl delete pod "$pod" --timeout=400s >/dev/null
  eventually 180 has_no_table
  for _ in {1..20}; do answers requests || fail "no answer beside a data plane that has no table: $(ask requests)"; done
  operator_returns
}

# has_no_table: whether a data plane says that it has none.
has_no_table() {
  local pod
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    [ "$(cluster curl -sS --max-time 30 "http://$pod:8081/readyz")" != "not ready: no routing table yet" ] || return 0
  done
  return 1
}
