# What e2e/cluster/test-chart tests, one function for each thing. Sourced by it, not run.

NAMESPACE=chart-test
DATABASES=chart-test-databases
OBJECTS=chart-test-objects
settings=(--set image.registry=localhost --set image.tag=test --set demo.enabled=true)
service="http://relay.$NAMESPACE"

helm() { cluster helm --namespace $NAMESPACE "$@"; }
kubectl() { cluster kubectl --namespace $NAMESPACE "$@"; }

# since TIME: seconds that have passed, with one digit.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# show: what is the matter with the pods, for whoever reads of a failure.
show() {
  kubectl get pods -o wide
  kubectl get events --sort-by=.lastTimestamp | tail -n 20
  kubectl logs --all-containers --prefix --tail=10 -l app.kubernetes.io/part-of=relay
} >&2

# pack_redis FOLDER: makes FOLDER/redis.tar, an image of Debian's redis-server, what its scripts need, and the libraries that
# they load.
pack_redis() {
  local name program library
  for name in redis-server redis-cli sh cat sleep timeout; do
    program=$(command -v $name)
    command install -D "$program" "$1/redis/usr/bin/$name"
    ldd "$program" | grep -o '/lib[^ ]*' | while read -r library; do command install -D "$library" "$1/redis$library"; done
  done
  scripts/pack --file e2e/cluster/images/Containerfile --uncompressed --target redis "$1" localhost/redis:test "$1/redis.tar" >/dev/null
}

# namespace NAME: makes it, with Pod Security in force.
namespace() {
  cluster kubectl create namespace "$1" >/dev/null
  cluster kubectl label namespace "$1" pod-security.kubernetes.io/enforce=restricted >/dev/null
}

# token KEY: the token of a RelayKey that the operator has made.
token() { kubectl get secret "key-$1" --template='{{.data.token | base64decode}}'; }

# burst ARGUMENTS... KEY: what e2e/cluster/chart/burst.py says. It is given the Service's address: thousands of connections
# would be as many questions for its name.
burst() {
  local address
  address=$(kubectl get service relay -o jsonpath='{.spec.clusterIP}')
  cluster python3 e2e/cluster/chart/burst.py "${@:1:$#-1}" "http://$address" "$(token "${!#}")" demo-chat
}

# counts WANTED KEY: fails unless three times 60 requests with a limit of 60 are answered so.
counts() {
  local said
  said=$(burst --count 180 "$2")
  echo "180 requests, 60 allowed: $said"
  [[ "$said" == "$1 "* ]] || fail "it should be $1"
}

# have_served NUMBER: whether so many data planes have each answered requests.
have_served() {
  local addresses address number serving=0
  addresses=$(kubectl get pods -l app.kubernetes.io/name=relay-dataplane -o jsonpath='{.items[*].status.podIP}')
  for address in $addresses; do
    number=$(cluster curl -sS "http://$address:8081/metrics" | awk '/^relay_requests_total/ { sum += $NF } END { print sum + 0 }')
    [ "$number" = 0 ] || serving=$((serving + 1))
  done
  [ $serving = "$1" ] || { echo "$serving data planes have served" && return 1; }
}

first_answer() {
  namespace $NAMESPACE
  cluster helm upgrade --install relay-crds charts/relay-crds --namespace relay-crds --create-namespace >/dev/null
  local started=$EPOCHREALTIME asked
  helm install relay charts/relay "${settings[@]}" >"$scratch/notes"
  kubectl wait --for=condition=Ready rdp/relay --timeout=300s >/dev/null || { show; fail "the data planes are not ready"; }
  kubectl wait --for=condition=Ready hosts,hostkeys,models,policies,relaykeys --all --timeout=300s >/dev/null
  kubectl wait --for=condition=Available deployments --all --timeout=300s >/dev/null || { show; fail "pods are not ready"; }
  echo "all is ready after $(since "$started") s"
  # The command that the notes end with, as it stands there.
  asked=$(grep -o 'exec deploy/.*' "$scratch/notes")
  says 'You said: "Hello, Relay"' eval "kubectl $asked"
  helm test relay --logs --timeout 180s >"$scratch/tested" 2>&1 || { cat "$scratch/tested"; fail "helm test"; }
  says "Nothing is wrong" cat "$scratch/tested"
  says '"Does Relay answer?"' cat "$scratch/tested"
  local python="$RELAY_CACHE/clients/newest/bin/python"
  if [ -x "$python" ]; then
    for answer in "openai demo-chat plain" "openai demo-messages streamed" "anthropic demo-chat streamed" "anthropic demo-messages plain"; do
      says "$answer: You said" cluster "$python" e2e/clients/converse.py "$service" \
        "$(kubectl get secret relay-demo-key --template='{{.data.token | base64decode}}')" demo-chat demo-messages
    done
  else
    echo "skipped, because e2e/clients/environments was not run: answers of the official SDKs" >&2
  fi
  is "" kubectl get pods -o jsonpath='{.items[?(@.status.containerStatuses[0].restartCount>0)].metadata.name}'
}

count_together() {
  # Little is asked for, so that this machine can load it: the autoscaler reckons in parts of what pods ask for.
  settings+=(--set redis.bundled.enabled=true --set redis.bundled.image=localhost/redis:test)
  settings+=(--set dataPlane.autoscaling.enabled=true --set dataPlane.autoscaling.maxReplicas=4)
  settings+=(--set dataPlane.resources.requests.cpu=50m --set dataPlane.drainSeconds=5 --set dataPlane.deregisterSeconds=2)
  # The load shall take all processors, and with them those of Redis: a slow answer of it is no outage here.
  settings+=(--set redis.timeout=5s)
  helm upgrade relay charts/relay "${settings[@]}" >/dev/null
  kubectl apply -f e2e/cluster/chart/limits.yaml >/dev/null
  eventually 180 scaled_to 2
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null || { show; fail "data planes with Redis are not ready"; }
  kubectl wait --for=condition=Ready relaykeys --all --timeout=300s >/dev/null
  eventually 120 settled
  counts "200=60 429=120 degraded=0" two
  have_served 2 || fail "both should have"

  local started=$EPOCHREALTIME
  burst --until "$scratch/enough" --parallel 24 --keep 20 load >"$scratch/load" &
  local load=$!
  # At the limit of `scaling` while pods come: as many as are allowed pass, whichever pods there are.
  burst --until "$scratch/enough" --parallel 2 --every 0.5 scaling >"$scratch/scaling" &
  local scaling=$!
  eventually 240 scaled_to 4
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null || { show; fail "four data planes are not ready"; }
  echo "four pods by the HorizontalPodAutoscaler after $(since "$started") s"
  # The Service knows of a pod a moment after the pod is ready.
  eventually 180 have_served 4
  counts "200=60 429=120 degraded=0" four
  touch "$scratch/enough"
  wait $load $scaling
  echo "load meanwhile: $(<"$scratch/load")"
  echo "at a limit of 60 meanwhile: $(<"$scratch/scaling")"
  [[ "$(<"$scratch/load")" == 200=* && "$(<"$scratch/load")" != *failed* ]] || fail "the load was not all answered"
  [[ "$(<"$scratch/scaling")" == "200=60 429="*" degraded=0 "* ]] || fail "not 60 passed while pods came"

  kubectl scale deployment/relay-redis --replicas=0 >/dev/null
  kubectl wait --for=delete pod -l app.kubernetes.io/name=relay-redis --timeout=300s >/dev/null
  counts "503=180 degraded=180" closed
  counts "200=180 degraded=180" open
  local said allowed
  said=$(burst --count 180 local)
  allowed=$(sed -n 's/^200=\([0-9]*\) .*/\1/p' <<<"$said")
  echo "180 requests, 60 allowed, each pod its part: $said"
  [ "${allowed:-0}" -gt 0 ] && [ "$allowed" -le 60 ] || fail "each pod should let in its part of 60"
  kubectl scale deployment/relay-redis --replicas=1 >/dev/null
  kubectl rollout status deployment/relay-redis --timeout=300s >/dev/null
  eventually 180 no_longer_degraded
  counts "200=60 429=120 degraded=0" later
}

scaled_to() { [ "$(kubectl get deployment relay-dataplane -o jsonpath='{.spec.replicas}')" = "$1" ]; }
no_longer_degraded() { [[ "$(burst --count 40 open)" == *"degraded=0"* ]]; }

redis_of_somebody_else() {
  local name="redis.$DATABASES.svc" password acl
  password=$(openssl rand -hex 16)
  namespace $DATABASES
  (
    cd "$scratch"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout tls.key -out tls.csr
    openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out tls.crt -extfile <(echo "subjectAltName=DNS:$name")
  ) 2>/dev/null
  # The user that the documentation names, for the prefix that the chart gives.
  acl=$(sed -n "/<!-- acl -->/,/<!-- end -->/s/^user //p" docs/limits.md)
  acl="${acl/>PASSWORD/>$password}"
  cat >"$scratch/redis.conf" <<END
port 0
tls-port 6379
tls-cert-file /etc/redis/tls.crt
tls-key-file /etc/redis/tls.key
tls-ca-cert-file /etc/redis/ca.crt
tls-auth-clients no
save ""
user default off
user ${acl/'~relay:'/"~relay-$NAMESPACE-relay:"}
END
  cluster kubectl --namespace $DATABASES create secret generic redis-settings --from-file="$scratch/redis.conf" \
    --from-file="$scratch/tls.crt" --from-file="$scratch/tls.key" --from-file="$scratch/ca.crt" >/dev/null
  cluster kubectl --namespace $DATABASES apply -f e2e/cluster/chart/redis.yaml >/dev/null
  kubectl create secret generic redis-user --from-literal=secret="$password" >/dev/null
  kubectl create secret generic redis-authority --from-file=tls.crt="$scratch/ca.crt" >/dev/null
  settings+=(--set redis.bundled.enabled=false --set "redis.url=rediss://$name:6379" --set redis.username=relay)
  settings+=(--set redis.passwordSecret.name=redis-user --set redis.passwordSecret.key=secret)
  settings+=(--set redis.caSecret.name=redis-authority --set redis.caSecret.key=tls.crt)
  cluster kubectl --namespace $DATABASES rollout status deployment/redis --timeout=300s >/dev/null
  helm upgrade relay charts/relay "${settings[@]}" >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null || { show; fail "data planes with that Redis are not ready"; }
  # Those that still count in the bundled one, which is gone, are gone as well.
  eventually 120 settled
  # A key that this Redis has not heard of begins anew.
  counts "200=60 429=120 degraded=0" two
  is "" kubectl get deployment relay-redis --ignore-not-found -o name
  ! kubectl get deployment,pod -o yaml | grep -q "$password" || fail "the password stands in a manifest"
  echo "TLS, its authority, the ACL user of the documentation and its password"
}

# written: generation of every object of the release, and what pods there are since when with how many restarts.
written() {
  helm get manifest relay | cluster kubectl get -f - -o jsonpath='{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.generation}{"\n"}{end}'
  kubectl get pods -l app.kubernetes.io/part-of=relay -o jsonpath='{range .items[*]}{.metadata.name} {.metadata.uid} {.status.containerStatuses[0].restartCount}{"\n"}{end}' | grep -v '^relay-test'
}

upgrade_twice() {
  local before
  # Pods that an earlier upgrade ends are gone.
  eventually 120 settled
  before=$(written)
  [ "$(wc -l <<<"$before")" -gt 20 ] || fail "a release has more objects than these: $before"
  for _ in 1 2; do
    helm upgrade relay charts/relay "${settings[@]}" >/dev/null
    is "$before" written
  done
  echo "two upgrades that change nothing wrote no object and restarted no pod"
}

# settled: whether all pods are gone that were told to go.
settled() { ! kubectl get pods -o jsonpath='{.items[*].metadata.deletionTimestamp}' | grep -q .; }

upgrade_from_before() {
  local before answered step
  before=$(git log -1 --skip=1 --format=%H -- charts/relay/templates charts/relay/values.yaml)
  [ -n "$before" ] || { echo "skipped, because the history is not here: the chart before this one" >&2 && return; }
  git archive "$before" charts | tar -x -C "$scratch"
  helm uninstall relay --wait --timeout 400s >/dev/null
  # As it was before: what this chart alone knows is refused there.
  helm install relay "$scratch/charts/relay" "${settings[@]}" >/dev/null
  kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null || { show; fail "the chart before this one"; }
  kubectl wait --for=condition=Available deployments --all --timeout=300s >/dev/null
  kubectl wait --for=condition=Ready relaykeys --all --timeout=300s >/dev/null
  burst --until "$scratch/upgraded" --parallel 4 --every 0.05 load >"$scratch/answered" &
  local load=$!
  # With another drain, so that pods are replaced each time, whatever else differs.
  settings+=(--set dataPlane.drainSeconds=6)
  for step in "upgrade relay charts/relay ${settings[*]}" "rollback relay 1" "upgrade relay charts/relay ${settings[*]}"; do
    helm $step >/dev/null
    kubectl rollout status deployment/relay-dataplane --timeout=400s >/dev/null || { show; fail "helm $step"; }
    kubectl rollout status deployment/relay-operator --timeout=400s >/dev/null
    kubectl wait --for=condition=Ready dataplanes,relaykeys --all --timeout=300s >/dev/null
    eventually 120 settled
  done
  touch "$scratch/upgraded"
  wait $load
  answered=$(<"$scratch/answered")
  echo "from the chart of $(git log -1 --format=%h "$before"), back to it and here again, requests meanwhile: $answered"
  [[ "$answered" =~ ^200=[0-9]+\ degraded=[0-9]+\ slowest ]] || fail "not all were answered"
}

remove() {
  cluster kubectl create namespace $OBJECTS >/dev/null
  cluster kubectl --namespace $OBJECTS apply -f examples/kubernetes >/dev/null
  local objects started=$EPOCHREALTIME
  objects=$(cluster kubectl --namespace $OBJECTS get hosts,hostkeys,models,policies,relaykeys -o name)
  helm uninstall relay --wait --timeout 400s >/dev/null
  # What users applied stays; what the chart made is gone.
  is "" kubectl get deployments,services,networkpolicies,roles,rolebindings,serviceaccounts,dataplanes,hosts,models -l app.kubernetes.io/part-of=relay -o name
  is "" cluster kubectl get clusterroles,clusterrolebindings "relay-operator-$NAMESPACE" --ignore-not-found -o name
  [ "$(kubectl get relaykeys -o name | wc -l)" = 8 ] || fail "keys of users are gone: $(kubectl get relaykeys -o name)"
  cluster kubectl delete namespace $NAMESPACE --timeout=300s >/dev/null || fail "the namespace hangs: $(kubectl get all,relaykeys -o name)"
  echo "uninstalled, and the namespace gone, after $(since "$started") s"
  if [ $after != clean ]; then
    cluster helm uninstall relay-crds --namespace relay-crds >/dev/null
    is "$objects" cluster kubectl --namespace $OBJECTS get hosts,hostkeys,models,policies,relaykeys -o name
    echo "definitions and their objects outlive both charts"
    cluster kubectl delete crd -l app.kubernetes.io/part-of=relay --timeout=300s >/dev/null
  fi
  cluster kubectl delete namespace $OBJECTS $DATABASES --timeout=300s >/dev/null
}

# clean: removes what a run has left in a cluster that is not its own.
clean() {
  cluster helm --namespace $NAMESPACE uninstall relay --ignore-not-found >/dev/null 2>&1 || true
  cluster kubectl delete namespace $NAMESPACE $DATABASES $OBJECTS --ignore-not-found --timeout=300s >/dev/null
}
