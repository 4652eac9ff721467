# Which programs a cluster is made of, and where they are kept. Sourced after scripts/lib.sh, not run.

. e2e/cluster/versions

api_parts=(etcd kube-apiserver kubectl)
node_parts=("${api_parts[@]}" kube-controller-manager kube-scheduler kubelet kube-proxy kubeadm coredns helm kubeconform metrics-server)

# home PART: the folder that the program is kept in. A new version gets a new folder.
home() {
  local release
  case "$1" in
    etcd | kube-* | kubectl | kubelet | kubeadm) release="$KUBERNETES-etcd-$ETCD" ;;
    coredns) release="coredns-$COREDNS" ;;
    helm) release="helm-$HELM" ;;
    kubeconform) release="kubeconform-$KUBECONFORM" ;;
    metrics-server) release="metrics-server-$METRICS_SERVER" ;;
    prometheus) release="prometheus-$PROMETHEUS" ;;
    prometheus-adapter) release="prometheus-adapter-$PROMETHEUS_ADAPTER" ;;
    regctl) release="regctl-$REGCTL" ;;
    crane) release="crane-$CRANE" ;;
    *)
      echo "$1 is no part of a cluster that is built here: ${node_parts[*]}" >&2
      return 2
      ;;
  esac
  echo "$RELAY_CACHE/cluster/$release"
}

# homes PART...: the folders of all of them, each once, in the form of a PATH.
homes() {
  local part
  for part in "$@"; do home "$part" || return; done | sort -u | paste -s -d :
}
