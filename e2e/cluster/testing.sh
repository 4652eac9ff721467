# What tests on the node have in common. Sourced after cluster.sh, not run.

# need_a_node: ends a test with one line where there can be no node.
need_a_node() {
  [ "${RELAY_E2E_CLUSTER:-}" != none ] || skip "RELAY_E2E_CLUSTER is \`none\`"
  [ "$(id -u)" = 0 ] || skip "a node needs root"
  command -v apt-get >/dev/null || skip "a node's containerd is installed by apt-get"
  unshare --mount --net --pid --fork true 2>/dev/null || skip "this machine gives no namespaces"
}
skip() { echo "skipped, because $1: $0" >&2 && exit; }

cluster() { e2e/cluster/in "$@"; }

# fail WORDS: ends the test.
fail() { echo "FAILED: $*" >&2 && exit 1; }

# says WORDS COMMAND...: fails unless the command's output contains the words.
says() {
  local output
  output=$("${@:2}" 2>&1) || fail "${*:2}: $output"
  [[ "$output" == *"$1"* ]] || fail "\`$1\` is not what ${*:2} says: $output"
}

# is WANTED COMMAND...: fails unless that is the command's output.
is() {
  local output
  output=$("${@:2}" 2>&1) || fail "${*:2}: $output"
  [ "$output" = "$1" ] || fail "${*:2} says \`$output\`, and should say \`$1\`"
}
