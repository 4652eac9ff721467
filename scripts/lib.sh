# What the scripts share: where things are kept, and how missing tools are installed. Sourced, not run.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RELAY_CACHE="${RELAY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/relay}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$RELAY_CACHE/target}"
mkdir -p "$RELAY_CACHE"

say() { printf '\n== %s\n' "$*"; }

# install PACKAGE...: installs Debian packages.
install() {
  say "installing $*"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "$* must be installed: use your system's package manager" >&2
    exit 1
  fi
  apt-get update -qq
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

need_rust() {
  need cc gcc libc6-dev
  command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  command -v cargo >/dev/null && return
  echo "cargo is missing: install Rust 1.95 or newer from https://rustup.rs" >&2
  exit 1
}
