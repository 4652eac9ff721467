# What a release asks of an OCI registry, and of the archives of images. Sourced by scripts/release, which sets `host`,
# `is_plain` and `scratch`; not run.

registry() {
  if [ $is_plain = yes ]; then
    regctl --host "reg=$host,tls=disabled" "$@"
  else
    regctl "$@"
  fi
}

# told COMMAND...: what it prints; nothing where the registry has nothing of the name. Fails, with $scratch/said, where the
# registry does not say.
told() {
  "$@" 2>"$scratch/said" || grep -qF '[http 404]' "$scratch/said"
}

# manifest NAME: the digest of what has the name.
manifest() { told registry manifest head --require-digest "$1"; }

# layers NAME: the digests of what is in it.
layers() { told registry manifest get "$1" --format '{{range $at, $each := .Layers}}{{if $at}} {{end}}{{$each.Digest}}{{end}}'; }

# has_bill IMAGE FILE: yes or no, whether the file refers to the image.
has_bill() {
  local refers
  for refers in $(told registry artifact list "$1" --filter-artifact-type "$BILL" --format '{{range .Descriptors}}{{println .Digest}}{{end}}'); do
    [ "$(layers "${1%:*}@$refers")" != "sha256:$(sum "$2")" ] || { echo yes && return; }
  done
  echo no
}
BILL=application/vnd.cyclonedx+json

# The type stands in both places where registries look for it: some know that of the configuration alone.
attach() {
  registry artifact put --subject "$1" --artifact-type "$BILL" --config-type "$BILL" --config-file <(printf '{}') \
    --file "$2" --file-media-type "$BILL" --file-title --strip-dirs
}

# push_files NAME FOLDER FILE...
push_files() {
  local file files=()
  for file in "${@:3}"; do files+=(--file "$2/$file" --file-media-type application/octet-stream); done
  registry artifact put "$1" --artifact-type application/vnd.llmrelay.release "${files[@]}" --file-title --strip-dirs
}

# push_chart FILE PLACE
push_chart() {
  local plain=()
  [ $is_plain = no ] || plain=(--plain-http)
  helm push "$1" "$2" "${plain[@]}" --registry-config "${DOCKER_CONFIG:-$HOME/.docker}/config.json"
}

# entry ARCHIVE FIELD: of the only image of an archive.
entry() {
  tar -xOf "$1" index.json | python3 -c '
import functools, json, sys
(only,) = json.load(sys.stdin)["manifests"]
print(functools.reduce(dict.__getitem__, sys.argv[1].split("."), only))' "$2"
}

# digest ARCHIVE: of its image's manifest.
digest() { entry "$1" digest; }

# architecture ARCHIVE: what its image runs on, as linux-amd64.
architecture() { echo "$(entry "$1" platform.os)-$(entry "$1" platform.architecture)"; }

sum() { sha256sum "$1" | cut -d ' ' -f 1; }
