"""Starts the demo upstream and `relay run` once for all tests, on free ports."""

import os
import pathlib
import re
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
TOKEN = "client-tests-token-0123456789abcdef"
NARROW_TOKEN = "narrow-tests-token-0123456789abcdef"
SHAPES = ["chat", "messages"]
STATUSES = [400, 404, 413, 429, 500, 529]


def pytest_addoption(parser):
    parser.addoption("--release", choices=["newest", "old"], default="newest")


@pytest.fixture(scope="session")
def release(request):
    return request.config.getoption("--release")


def start(*arguments):
    """Starts `relay` and gives the process with its first line."""
    binary = os.environ["RELAY_BINARY"]
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline()


def host_key(shape, name):
    return f"""apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {{ name: {shape}-{name} }}
spec:
  hostRef: {{ name: {shape}-host }}
  source: {{ secretKeyRef: {{ name: provider, key: {name} }} }}
"""


def model(name, shape, upstream):
    traits = "reasoning: Effort, efforts: [none, low, medium, high]"
    if shape == "messages":
        traits = "reasoning: AdaptiveThinking, efforts: [low, medium, high]"
    return f"""apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {{ name: {name} }}
spec:
  hosts: [{{ name: only, hostRef: {{ name: {shape}-host }}, upstreamModel: {upstream} }}]
  maxOutputTokens: 8192
  traits: {{ {traits} }}
"""


def manifests(upstream):
    keys = [host_key(shape, name) for shape in SHAPES for name in ["good", "invalid", "limited", "broken"]]
    models = [model(f"{shape}-model", shape, "demo") for shape in SHAPES]
    models += [model(f"{shape}-fails-{status}", shape, f"fail-{status}") for shape in SHAPES for status in STATUSES]
    models.append(model("forbidden", "chat", "demo"))
    text = (HERE / "manifests.yaml").read_text()
    text = text.replace("{keys}", "---\n".join(keys)).replace("{models}", "---\n".join(models))
    return text.replace("{upstream}", upstream)


@pytest.fixture(scope="session")
def relay(tmp_path_factory):
    """The address of a running relay."""
    upstream, line = start("demo-upstream", "--listen", "127.0.0.1:0", "--delay", "1ms")
    address = re.search(r"http://\S+", line).group()
    directory = tmp_path_factory.mktemp("manifests")
    (directory / "relay.yaml").write_text(manifests(address))
    router, line = start("run", str(directory), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--deregister-delay", "0s")
    listening = re.match(r"relay: listening on (http://\S+), admin on (http://\S+)", line)
    assert listening, f"unexpected first line: {line!r}"
    yield listening.group(1)
    for process in (router, upstream):
        process.terminate()
    assert router.wait(timeout=30) == 0
    upstream.wait(timeout=30)


@pytest.fixture(params=[f"{shape}-model" for shape in SHAPES])
def any_model(request):
    """A model at an upstream of each shape."""
    return request.param
