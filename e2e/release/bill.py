#!/usr/bin/env python3
"""Compares a bill of materials with what cargo says that the program links.

    bill.py PROGRAM BILL SHA256-OF-THE-PROGRAM
"""

import json
import re
import subprocess
import sys

program, path, checksum = sys.argv[1:]
with open(path) as file:
    text = file.read()
bill = json.loads(text)
listed = {(each["name"], each["version"]) for each in bill["components"]}
beside = {each for each in listed if each[0] in ("rust-std", "glibc")}


def tree(packages):
    """What cargo says of a build of these packages, and of nothing that only builds them."""
    named = [word for package in packages for word in ("-p", package)]
    command = ["cargo", "tree", "--locked", *named, "-e", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return set(re.findall(r"^(\S+) v(\S+)", said, re.MULTILINE))


packages = {"relay-operator": "relay-operator", "relay-dataplane": "relay-dataplane", "relay": "relay-cli"}
own = packages[program]
without_own = lambda crates: {each for each in crates if each[0] != own}
alone, together = without_own(tree([own])), without_own(tree(packages.values()))
missing, foreign = alone - listed, listed - together - beside
assert not missing, f"{program} links, and its bill lacks: {sorted(missing)}"
assert not foreign, f"its bill has, and {program} does not link: {sorted(foreign)}"
# Built together, one program's features are those of all; that adds a few crates and no more.
assert len(listed - alone - beside) < 20, sorted(listed - alone - beside)
assert {"rust-std"} <= {name for name, _ in beside}, beside
never = {"ring", "serde_derive", "syn", "cc", "tempfile"} & {name for name, _ in listed}
assert not never, f"{program} links none of {never}"

component = bill["metadata"]["component"]
assert component["name"] == program and component["hashes"] == [{"alg": "SHA-256", "content": checksum}], component
refs = {component["bom-ref"], *(each["bom-ref"] for each in bill["components"])}
assert len(refs) == len(listed) + 1
for each in bill["dependencies"]:
    assert {each["ref"], *each["dependsOn"]} <= refs, each
assert "file:" not in text and "/tmp/" not in text, "it says where it was made"
licensed = [each for each in bill["components"] if each.get("licenses")]
assert len(licensed) == len(listed), [each["name"] for each in bill["components"] if not each.get("licenses")]
print(f"{program}: {len(listed)} components, as cargo links them")
