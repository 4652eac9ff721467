# The cluster that tests start: where it is, and how things run inside. Sourced after parts.sh, not run. There is one, and
# another for each RELAY_E2E_SUFFIX.
#
# It lives in namespaces of its own for processes, mounts and network. All of them hang on one process, `pause`: when that
# one is killed, the kernel ends all others, and takes mounts, interfaces, rules and addresses with them. On disk everything
# is below $STATE; outside of that there are the control groups named $CGROUP.

CGROUP="relay-e2e${RELAY_E2E_SUFFIX:+-$RELAY_E2E_SUFFIX}"
STATE="/var/lib/$CGROUP"
LOCK="/run/lock/$CGROUP"
NODE=node-1
BRIDGE=pods0
GATEWAY=10.88.0.1 PODS=10.88.0.0/24 SERVICES=10.96.0.0/24 DNS=10.96.0.10
export KUBECONFIG="$STATE/admin.conf"

# first_process: the process, as this machine counts them, that the cluster hangs on. Fails when there is none.
first_process() {
  local pid
  pid=$(cat "$STATE/pid" 2>/dev/null) || return
  # A number outlives its process and may be somebody else's by now.
  [ "$(readlink "/proc/$pid/exe")" = "$STATE/bin/pause" ] && echo "$pid"
}

# inside COMMAND...: runs it in the namespaces of the cluster, without the lock.
inside() {
  local pid
  pid=$(first_process) || { echo "no cluster is up: e2e/cluster/up starts one" >&2 && return 1; }
  # Not `ip netns exec`, which mounts /sys anew and so hides the control groups.
  nsenter --target "$pid" --mount --pid --net -- "$@" 9>&-
}

# in_network COMMAND...: the same with the cluster's network alone: files and processes are those of the machine.
in_network() {
  local pid
  pid=$(first_process) || { echo "no cluster is up: e2e/cluster/up starts one" >&2 && return 1; }
  nsenter --target "$pid" --net -- "$@" 9>&-
}

# eventually SECONDS COMMAND...: repeats it until it succeeds; at the end shows what it says, and the ends of the logs.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -ge $end ]; then
      echo "in vain: $*" >&2
      "$@" >&2 || true
      tail -n 15 "$STATE"/log/* >&2 || true
      return 1
    fi
    sleep 0.1
  done
}

# filled FILE: the file with the values of its ${NAMES}.
filled() {
  local text name
  text=$(<"$1")
  for name in STATE CGROUP NODE BRIDGE GATEWAY PODS SERVICES DNS KUBERNETES SNAPSHOTTER; do
    text="${text//\$\{$name\}/${!name:-}}"
  done
  printf '%s\n' "$text"
}

# cgroups: the folders of the cluster's control groups: one for each hierarchy, or one where all controllers share one.
cgroups() {
  if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    echo "/sys/fs/cgroup/$CGROUP"
  else
    local hierarchy
    for hierarchy in /sys/fs/cgroup/*/; do echo "$hierarchy$CGROUP"; done
  fi
}

# remove_rest: what the kernel does not remove with the processes. For whoever holds the lock, when no cluster is up.
remove_rest() {
  # A group is busy for a moment after its last process has ended.
  eventually 60 remove_cgroups
  rm -rf "$STATE"
}

remove_cgroups() {
  local folder
  for folder in $(cgroups); do
    [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + || return
  done
}
