# What the scripts share: where things are kept, and how missing tools are installed. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RELAY_CACHE="${RELAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relay}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$RELAY_CACHE/target}"
mkdir -p "$RELAY_CACHE"
RELAY_CACHE="$(cd "$RELAY_CACHE" && pwd)"

say() { printf '\n== %s\n' "$*"; }

# install PACKAGE...: installs Debian packages.
install() {
  say "installing $*"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$* must be installed: use your system's package manager" >&2
    exit 1
  fi
  # Once will do for all that a script and those that it calls install.
  [ -n "${RELAY_APT_UPDATED:-}" ] || apt-get update -qq
  export RELAY_APT_UPDATED=1
  DEBIAN_FRONTEND=noninteractive without_services apt-get install -qq -y --no-install-recommends "$@"
}

# without_services COMMAND...: packages that the command installs do not start the services that they bring along.
without_services() (
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  "$@"
)

# need COMMAND PACKAGE...: installs the packages when the command is missing.
need() {
  command -v "$1" >/dev/null || install "${@:2}"
}

# need_redis: tests start servers of their own; the service of Debian's package stays off, after a reboot too.
need_redis() {
  command -v redis-server >/dev/null && return
  install redis-server
  update-rc.d redis-server disable
}

# need_lua: the language of Argo CD's health checks.
need_lua() {
  need lua5.1 lua5.1
}

need_rust() {
  need cc gcc libc6-dev
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null && return
  echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2
  exit 1
}

# need_cyclonedx: says what crates a program is made of.
need_cyclonedx() {
  local wanted=0.5.9 tools="$RELAY_CACHE/tools"
  PATH="$tools/bin:$PATH"
  cargo-cyclonedx cyclonedx --version 2>/dev/null | grep -q " $wanted\$" && return
  env -u CARGO_TARGET_DIR cargo install -q cargo-cyclonedx --locked --version "$wanted" --root "$tools"
}

# need_go: Go 1.26 or newer on the PATH. Debian's own is too old to build Kubernetes, but can fetch the Go team's newer one,
# which is published as a module too.
need_go() {
  local wanted=1.26.8
  command -v go >/dev/null || [ ! -x /usr/local/go/bin/go ] || PATH="/usr/local/go/bin:$PATH"
  go_is_new "$wanted" && return
  need go golang-go ca-certificates
  local place="$RELAY_CACHE/go-$wanted" cache="$RELAY_CACHE/go-modules"
  if [ ! -x "$place/bin/go" ]; then
    say "fetching Go $wanted"
    local module="golang.org/toolchain@v0.0.1-go$wanted.$(go env GOOS)-$(go env GOARCH)"
    GOMODCACHE="$cache" GOFLAGS=-modcacherw go mod download "$module"
    # Modules hold no permissions.
    chmod +x "$cache/$module"/bin/* "$cache/$module"/pkg/tool/*/*
    rm -rf "$place" && mv "$cache/$module" "$place" && rm -rf "$cache"
  fi
  export PATH="$place/bin:$PATH"
}

# go_is_new VERSION: whether the `go` on the PATH is at least that.
go_is_new() {
  local have
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null) || return 1
  printf '%s\n' "$1" "${have#go}" | sort -CV
}
