# What e2e/cluster/test-autoscale tests, one function for each thing. Sourced by it after chart/parts.sh and drain/parts.sh, not
# run.

NAMESPACE=autoscale-test
METRICS=autoscale-test-metrics
# Requests in flight for each pod. Three and seven tenths times as many make four pods, of the six that there may be.
target=20 lasting=20 passing=54
settings=(--set image.registry=localhost --set image.tag=test --set demo.enabled=true --set rbac.aggregatedRoles=false)
settings+=(--set dataPlane.autoscaling.enabled=true --set dataPlane.autoscaling.maxReplicas=6)
settings+=(--set "dataPlane.autoscaling.inFlight.target=$target")
# Sooner than is good for anybody but a test.
settings+=(--set-json 'dataPlane.autoscaling.behavior.scaleDown={"stabilizationWindowSeconds": 10, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}')
# Pods end well before a stream would be cut by them.
settings+=(--set dataPlane.drainSeconds=60 --set dataPlane.deregisterSeconds=5 --set dataPlane.resources.requests.cpu=50m)

remove() {
  # A group of the API that nobody serves any longer would keep namespaces from ending.
  cluster kubectl delete -f e2e/cluster/autoscale/metrics.yaml --ignore-not-found >/dev/null
  helm uninstall relay --ignore-not-found >/dev/null 2>&1
  cluster kubectl delete namespace $NAMESPACE $METRICS --ignore-not-found --timeout=400s >/dev/null
}

# serve_metrics: Prometheus and its adapter, with the rule that users are told to give it.
serve_metrics() {
  local metrics=(cluster kubectl --namespace $METRICS) name
  namespace $METRICS
  sed -n '/<!-- adapter -->/,/<!-- end -->/p' docs/sizing.md | sed '/^```/d; /^<!--/d' >"$scratch/config.yaml"
  "${metrics[@]}" create configmap adapter --from-file="$scratch/config.yaml" >/dev/null
  cluster kubectl apply -f e2e/cluster/autoscale/metrics.yaml >/dev/null
  for name in prometheus adapter; do
    "${metrics[@]}" rollout status deployment/$name --timeout=300s >/dev/null || { "${metrics[@]}" logs deployment/$name --tail=20 && fail "$name"; }
  done
  cluster kubectl wait --for=condition=Available apiservice/v1beta1.custom.metrics.k8s.io --timeout=300s >/dev/null
}

begin() {
  cluster helm upgrade --install relay-crds charts/relay-crds --namespace relay-crds --create-namespace >/dev/null
  namespace $NAMESPACE
  helm install relay charts/relay "${settings[@]}" >/dev/null
  kubectl apply -f e2e/cluster/autoscale/objects.yaml >/dev/null
  kubectl patch deployment relay-demo --type=json \
    -p '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--delay='$pace'"}]' >/dev/null
  kubectl rollout status deployment/relay-demo --timeout=300s >/dev/null
  kubectl wait --for=condition=Ready rdp,relaykeys --all --timeout=300s >/dev/null || { show; fail "data planes are not ready"; }
  # Not said to: helm has seen what the cluster serves.
  is relay_requests_in_flight autoscaler '{.spec.metrics[*].pods.metric.name}'
  eventually 120 is_looked_at
  is 2 autoscaler '{.status.currentReplicas}'
  address=$(kubectl get service relay -o jsonpath='{.spec.clusterIP}')
  RELAY_STREAMS_TOKEN=$(token streams)
  export RELAY_STREAMS_TOKEN
}

# autoscaler PATH: what is there of the HorizontalPodAutoscaler.
autoscaler() { kubectl get hpa relay-dataplane -o jsonpath="$1"; }
# is_looked_at: whether the autoscaler has the metric.
is_looked_at() { kubectl wait --for=condition=ScalingActive hpa/relay-dataplane --timeout=1s; }

# told: requests in flight of each data plane, as the autoscaler is told.
told() {
  kubectl get --raw "/apis/custom.metrics.k8s.io/v1beta1/namespaces/$NAMESPACE/pods/*/relay_requests_in_flight" |
    python3 -c 'import json, sys; print(*(it["value"] for it in json.load(sys.stdin)["items"]))'
}
# is_told PODS SUM: whether it is told of that many pods, and of that sum.
is_told() {
  local values
  values=$(told) && awk -v pods="$1" -v sum="$2" '{ for (n = 1; n <= NF; n++) found += $n } END { exit !(NF == pods && found == sum) }' <<<"$values"
}

hold() { load --streams "$1" --words "$words" --until "$scratch/$2" >"$scratch/$2.json"; }

# all_are_open: whether as many streams are open as there shall be, and some in each of the pods.
all_are_open() {
  local pod
  are_open $(((lasting + passing) * 9 / 10)) || return
  for pod in $(planes -o jsonpath='{.items[*].status.podIP}'); do
    cluster curl -sS --max-time 30 "http://$pod:8081/metrics" | grep -q '^relay_streams_open [1-9]' || return
  done
}

# stays PODS SECONDS: fails when another number of pods is wanted before so many seconds are over.
stays() {
  local end=$((SECONDS + $2))
  while [ $SECONDS -lt $end ]; do
    scaled_to "$1" || fail "$1 pods do not stay: the autoscaler wants $(autoscaler '{.status.desiredReplicas}')"
    sleep 1
  done
}

follow_streams() {
  local started=$SECONDS first second
  eventually 180 is_told 2 0
  hold $lasting over &
  first=$!
  hold $passing passed &
  second=$!
  eventually 180 are_open $(((lasting + passing) * 9 / 10))
  started=$SECONDS
  eventually 120 scaled_to 4 || { kubectl describe hpa; fail "the autoscaler"; }
  echo "$(metric relay_streams_open) streams are open, and four pods wanted after $((SECONDS - started)) s"
  kubectl rollout status deployment/relay-dataplane --timeout=300s >/dev/null || { show; fail "four data planes are not ready"; }
  eventually 180 all_are_open
  echo "streams are in all four after $((SECONDS - started)) s; the autoscaler hears of $(told)"
  stays 4 20

  touch "$scratch/passed"
  wait $second || fail "the load ended with $?"
  started=$SECONDS
  eventually 180 scaled_to 2 || { kubectl describe hpa; fail "the autoscaler"; }
  echo "two pods wanted $((SECONDS - started)) s after $passing streams have ended; $(metric relay_streams_open) are open"
  eventually 120 settled
  stays 2 20
  eventually 180 is_told 2 $lasting
  touch "$scratch/over"
  wait $first || fail "the load ended with $?"
  for name in passed over; do
    is "{}" read_json "$scratch/$name.json" "it['streams']['failed']"
    echo "$(read_json "$scratch/$name.json" "it['streams']['ended']") streams, none of them cut"
  done
}
