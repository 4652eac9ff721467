# What e2e/release/test tests, one function for each thing. Sourced by it, not run.

WHO=releaser:letmein
BILL=application/vnd.cyclonedx+json

# copy_tree FOLDER: what stands in the working tree, as a commit.
copy_tree() {
  mkdir -p "$1"
  git ls-files -z --cached --others --exclude-standard |
    xargs -0 -I{} sh -c 'test ! -e "$1" || printf "%s\0" "$1"' - {} | tar --null -T - -c | tar -x -C "$1"
  git -C "$1" init --quiet
  git -C "$1" config user.name test
  git -C "$1" config user.email test@localhost
  commit "what is released"
}

# commit WORDS: all that stands in the copy.
commit() {
  git -C "$scratch/tree" add --all
  git -C "$scratch/tree" commit --quiet --message "$1"
}

# pack_images FOLDER: images as scripts/images writes them, of programs that are made faster.
pack_images() {
  local program
  cargo build -q --locked -p relay-operator -p relay-dataplane -p relay-cli
  mkdir -p "$1/context/programs" "$1/context/certificates"
  echo "no certificates" >"$1/context/certificates/ca-certificates.crt"
  for program in relay-operator relay-dataplane relay; do
    strip -o "$1/context/programs/$program" "$CARGO_TARGET_DIR/debug/$program"
    scripts/pack --uncompressed --target "${program#relay-}" "$1/context" "localhost/$program:test" "$1/$program.tar"
  done
}

# serve: a registry, and a gate before it; `port` is that of the gate, $scratch/asked what passed it.
serve() {
  local inner
  touch "$scratch"/{registry,asked}
  crane registry serve --address 127.0.0.1:0 >"$scratch/registry" 2>&1 &
  servers+=($!)
  inner=$(first_number "$scratch/registry")
  python3 e2e/release/gate.py "$inner" "$WHO" >"$scratch/asked" &
  servers+=($!)
  port=$(first_number "$scratch/asked")
}

# first_number FILE: the number that its first line ends with, once that is there.
first_number() {
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    grep -q . "$1" && { head -n 1 "$1" | grep -o '[0-9]*$' && return; }
    sleep 0.1
  done
  fail "no server has started: $(cat "$1")"
}

release() { "$scratch/tree/scripts/release" --images "$images" --out "$scratch/files" "$@"; }

# says_of_names WORDS ARGUMENTS...: of how many names a release says so.
says_of_names() {
  release "$registry" "${@:2}" >"$scratch/said" 2>"$scratch/told" || { cat "$scratch/told" && return 1; }
  grep -c "^$1: " "$scratch/said"
}

# refuses WORDS ARGUMENTS...: fails unless that release is refused with these words.
refuses() {
  local output
  output=$(release "${@:2}" 2>&1) && fail "it is released: ${*:2}"
  [[ "$output" == *"not released: "*"$1"* ]] || fail "\`$1\` is not why ${*:2} is refused: $output"
  echo "refused: $1"
}

# log_in: as docker does.
log_in() {
  mkdir -p "$DOCKER_CONFIG"
  printf '{"auths": {"127.0.0.1:%s": {"auth": "%s"}}}' "$port" "$(printf %s "$WHO" | base64)" >"$DOCKER_CONFIG/config.json"
}

# writes: how often something was written to the registry.
writes() { grep -cE '^(POST|PUT|PATCH|DELETE) ' "$scratch/asked" || true; }

what_is_refused() {
  refuses "\`https://$registry\` is no registry" "https://$registry"
  refuses "--version is \`9.9.9\`, and version in Cargo.toml \`$version\`" "$registry" --version 9.9.9
  echo "more" >>"$scratch/tree/README.md"
  refuses "README.md" "$registry"
  git -C "$scratch/tree" checkout --quiet README.md
  sed -i 's/^appVersion: .*/appVersion: 7.0.0/' "$scratch/tree/charts/relay/Chart.yaml"
  refuses "appVersion in charts/relay/Chart.yaml is \`7.0.0\`" "$registry"
  git -C "$scratch/tree" checkout --quiet charts
  git -C "$scratch/tree" tag "v$version"
  git -C "$scratch/tree" commit --quiet --allow-empty --message "one more"
  refuses "the tag v$version is of commit" "$registry"
  git -C "$scratch/tree" tag --delete "v$version" >/dev/null
  refuses "--out is \`$scratch/tree\`, where something else is" "$registry" --out "$scratch/tree"
  refuses "unauthorized" "$registry"
  # Only this machine, by its usual names, is asked without TLS.
  refuses 'Head "https://127.0.0.2:' "127.0.0.2:$port/relay"
  is 0 writes
}

released() {
  log_in
  is 9 says_of_names "would be pushed" --dry-run
  is 0 writes
  is 9 says_of_names pushed --version "$version"
}

# summed FILE: what SHA256SUMS says of it.
summed() { awk -v name="$1" '$2 == name { print $1 }' "$scratch/files/SHA256SUMS"; }

images_are_those_of_the_release() {
  local program digest
  for program in relay-operator relay-dataplane relay; do
    digest=$(crane digest "$registry/$program:$version")
    grep -q "{name: $program, digest: \"$digest\"}" "$scratch/files/image-digests.yaml" || fail "$program has the digest $digest"
    is "$(summed "$program-$version-linux-$(crane config "$registry/$program:$version" | python3 -c 'import json, sys; print(json.load(sys.stdin)["architecture"])')")" \
      eval "crane export $registry/$program:$version - | tar -xO $program | sha256sum | cut -d ' ' -f 1"
  done
  echo "digests, and the programs within"
}

bills_list_what_is_linked() {
  local program digest bill
  for program in relay-operator relay-dataplane relay; do
    digest=$(crane digest "$registry/$program:$version")
    # Where what refers to an image is found in registries that cannot be asked for it, as this one.
    bill=$(crane manifest "$registry/$program:${digest/:/-}" | python3 -c '
import json, sys
(only,) = json.load(sys.stdin)["manifests"]
assert only["artifactType"] == sys.argv[1], only
print(only["digest"])' "$BILL")
    bill=$(crane manifest "$registry/$program@$bill" | python3 -c '
import json, sys
manifest = json.load(sys.stdin)
assert manifest["subject"]["digest"] == sys.argv[1], manifest
print(manifest["layers"][0]["digest"])' "$digest")
    crane blob "$registry/$program@$bill" >"$scratch/bill"
    is "sha256:$(summed "$program-$version.cdx.json")" echo "$bill"
    python3 e2e/release/bill.py "$program" "$scratch/bill" "$(summed_program "$program")"
  done
}

summed_program() { awk -v name="$1-$version-linux-" 'index($2, name) == 1 { print $1 }' "$scratch/files/SHA256SUMS"; }

files_are_whole() {
  mkdir "$scratch/pulled"
  regctl --host "reg=127.0.0.1:$port,tls=disabled" artifact get "$registry/release:$version" --output "$scratch/pulled"
  (cd "$scratch/pulled" && sha256sum --check --strict --quiet SHA256SUMS)
  is "$(cd "$scratch/files" && ls)" ls "$scratch/pulled"
  is 10 eval "ls $scratch/pulled | wc -l"
  echo "all files"
}

charts_refer_to_the_images() {
  local chart
  for chart in relay relay-crds; do
    helm pull "oci://$registry/charts/$chart" --version "$version" --plain-http --registry-config "$DOCKER_CONFIG/config.json" \
      --destination "$scratch" >/dev/null 2>&1
    is "$(summed "$chart-$version.tgz")" eval "sha256sum $scratch/$chart-$version.tgz | cut -d ' ' -f 1"
    helm template "$chart" "$scratch/$chart-$version.tgz" >"$scratch/$chart.yaml"
  done
  is "$(printf '%s\n' "$registry"/relay{,-dataplane,-operator}:"$version" | sort)" images_in "$scratch/relay.yaml"
  helm template relay "$scratch/relay-$version.tgz" --values "$scratch/files/image-digests.yaml" >"$scratch/pinned.yaml"
  is "$(for each in relay relay-dataplane relay-operator; do crane digest --full-ref "$registry/$each:$version"; done | sort)" \
    images_in "$scratch/pinned.yaml"
  is 6 grep -c '^kind: CustomResourceDefinition' "$scratch/relay-crds.yaml"
  echo "charts, by tag and by digest"
}

images_in() { sed -n 's/^ *image: *//p' "$1" | tr -d '"' | sort -u; }

again() {
  local before
  before=$(writes)
  is 9 says_of_names "is there"
  is "$before" writes
  # Whatever did not come through is pushed later, and nothing else.
  crane delete "$registry/release:$version"
  is 1 says_of_names pushed
  grep -q "^pushed: $registry/release:$version$" "$scratch/said" || fail "it should be the files that are pushed: $(cat "$scratch/said")"
}

# built: what a release makes of images that it has had built; they are given to it by what stands in for scripts/images,
# which would build for half an hour.
built() {
  cat >"$scratch/tree/scripts/images" <<END
#!/usr/bin/env bash
echo "\$*" >"$scratch/asked-for"
out="\${*: -1}"
rm -rf "\$out" && mkdir -p "\$out" && cp -r "$images/." "\$out/"
END
  commit "images that are there"
  is 9 eval "CARGO_TARGET_DIR='$scratch/target' '$scratch/tree/scripts/release' --out '$scratch/files' '$registry' | grep -c '^is there: '"
  is "--tag $version --registry $registry --out $scratch/target/images" cat "$scratch/asked-for"
}

other_content() {
  local before
  before=$(writes)
  echo "# another default" >>"$scratch/tree/charts/relay/values.yaml"
  commit "another chart"
  refuses "$version is released already, with other content (raise the version): $registry/charts/relay:$version" "$registry"
  is "$before" writes
  raise 9.9.9
  is 9 says_of_names pushed --version 9.9.9
  is "$(crane digest "$registry/relay:$version")" crane digest "$registry/relay:9.9.9"
}

# raise VERSION: of everything in the copy.
raise() {
  sed -i "/^\[workspace.package\]/,/^\$/s/^version = .*/version = \"$1\"/" "$scratch/tree/Cargo.toml"
  sed -i -E "s/^(version|appVersion): .*/\1: $1/" "$scratch/tree"/charts/*/Chart.yaml
  (cd "$scratch/tree" && cargo update --quiet --workspace --offline)
  commit "$1"
}
