# What tests on the node have in common. Sourced after cluster.sh, not run.

# need_a_node: fails with a line for what is missing where there can be no node, and ends the test where none is wanted.
need_a_node() {
  [ "${RELAY_E2E_CLUSTER:-}" != none ] || { echo "skipped, because RELAY_E2E_CLUSTER is \`none\`: $0" >&2 && exit; }
  e2e/cluster/able
}

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
