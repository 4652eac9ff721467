"""Follows what all data planes of a namespace write, those that come and go as well, until a file is there and all have
said what they had to, and prints as JSON the sums of their usage records for each relay key, and the exit codes of those
that have ended.

    usage.py --until FILE NAMESPACE
"""

import argparse
import collections
import json
import os
import subprocess
import threading
import time

options = argparse.ArgumentParser()
options.add_argument("--until", required=True)
options.add_argument("namespace")
chosen = options.parse_args()
KUBECTL = ["kubectl", "--namespace", chosen.namespace]
sums, ids, lock = collections.defaultdict(collections.Counter), set(), threading.Lock()
followed, codes = {}, {}
PODS = ["get", "pods", "-l", "app.kubernetes.io/name=relay-dataplane"]
ENDS = "{.metadata.name} {.status.containerStatuses[0].state.terminated.exitCode}\n"


def take(line):
    try:
        record = json.loads(line)
    except ValueError:
        return
    if record.get("schema") != "relay.usage/1":
        return
    with lock:
        of = sums[record["relay_key"]]
        of["twice"] += record["request_id"] in ids
        ids.add(record["request_id"])
        of["records"] += 1
        used = record["usage"] or {"input": 0, "output": 0, "estimated": False}
        of["input"] += used["input"]
        of["output"] += used["output"]
        of["cancelled"] += record["cancelled"]
        of["errors"] += record["error_code"] is not None
        of["estimated"] += used["estimated"]
        of["cost_nano_usd"] += record["cost_nano_usd"] or 0
        of["degraded"] += record["limits_degraded"]


def follow(process):
    for line in process.stdout:
        take(line)


def watch(process):
    for line in process.stdout:
        name, *code = line.decode().split()
        if code:
            codes[name] = int(code[0])


def running():
    """Names of the pods whose container has begun."""
    shown = subprocess.run(
        [*KUBECTL, *PODS, "-o", "json"], check=True, capture_output=True,
    )
    for pod in json.loads(shown.stdout)["items"]:
        state = (pod["status"].get("containerStatuses") or [{"state": {}}])[0]["state"]
        if "running" in state or "terminated" in state:
            yield pod["metadata"]["name"]


watching = subprocess.Popen([*KUBECTL, *PODS, "--watch", "-o", f"jsonpath={ENDS}"], stdout=subprocess.PIPE)
threading.Thread(target=watch, args=[watching], daemon=True).start()
while not os.path.exists(chosen.until):
    for name in running():
        if name not in followed:
            process = subprocess.Popen([*KUBECTL, "logs", "--follow", name], stdout=subprocess.PIPE)
            thread = threading.Thread(target=follow, args=[process])
            thread.start()
            followed[name] = (process, thread)
    time.sleep(0.5)

# What was written before the file was there arrives at once: quiet means that all of it has.
before = None
while before != (before := len(ids)):
    time.sleep(3)
watching.terminate()
watching.wait()
for process, thread in followed.values():
    process.terminate()
    thread.join()
    process.wait()
print(json.dumps({"pods": len(followed), "codes": codes, "keys": sums}))
