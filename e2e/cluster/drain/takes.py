"""Prints what each pod of a namespace that is told with `app.kubernetes.io/part-of=relay` takes of processors and memory, as the
cluster measures it, beside what the chart asks for, and fails when one takes more memory than it asks for.

    takes.py NAMESPACE COMPONENT=MILLICORES...

What is asked for of processors is given for each component, because tests ask for less than the chart does.
"""

import collections
import json
import subprocess
import sys

namespace, *asked = sys.argv[1:]
cores = dict(each.split("=") for each in asked)
UNITS = {"n": 1e-6, "u": 1e-3, "m": 1, "": 1000}
SIZES = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}


def read(*words):
    return json.loads(subprocess.run(["kubectl", *words], check=True, capture_output=True).stdout)


def millicores(text):
    digits = text.rstrip("num")
    return float(digits) * UNITS[text[len(digits):]]


def mebibytes(text):
    return float(text[:-2]) * SIZES[text[-2:]]


pods = read("--namespace", namespace, "get", "pods", "-l", "app.kubernetes.io/part-of=relay", "-o", "json")["items"]
measured = read("get", "--raw", f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods")["items"]
measured = {pod["metadata"]["name"]: pod["containers"][0]["usage"] for pod in measured}
taken, too_much = collections.defaultdict(list), []
for pod in pods:
    name, component = pod["metadata"]["name"], pod["metadata"]["labels"]["app.kubernetes.io/component"]
    if name in measured and component in cores:
        memory = mebibytes(pod["spec"]["containers"][0]["resources"]["requests"]["memory"])
        used = measured[name]
        taken[component].append((millicores(used["cpu"]), mebibytes(used["memory"]), memory))
if missing := cores.keys() - taken.keys():
    sys.exit(f"nothing is measured of {', '.join(sorted(missing))}")
for component, pods in sorted(taken.items()):
    cpu, memory, asked = (max(each) for each in zip(*pods))
    print(f"{component}: at most {cpu:.0f}m of {cores[component]}m, {memory:.0f} of {asked:.0f} MiB, in each of {len(pods)} pods")
    if memory > asked:
        too_much.append(component)
if too_much:
    sys.exit(f"more memory than is asked for: {', '.join(too_much)}")
