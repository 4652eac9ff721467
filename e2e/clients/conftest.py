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


def host(name, shape, upstream):
    protocol, path = ("OpenAI", "/v1") if shape == "chat" else ("Anthropic", "")
    return f"""apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {{ name: {name} }}
spec:
  protocol: {protocol}
  baseURL: {upstream}{path}
  allowPlaintext: true
  network: {{ allowPrivateAddresses: true }}
"""


def host_key(name, host, secret):
    return f"""apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {{ name: {name} }}
spec:
  hostRef: {{ name: {host} }}
  source: {{ secretKeyRef: {{ name: provider, key: {secret} }} }}
"""


def model(name, shape, host, upstream_model):
    traits = "reasoning: Effort, efforts: [none, low, medium, high]"
    if shape == "messages":
        traits = "reasoning: AdaptiveThinking, efforts: [low, medium, high]"
    return f"""apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {{ name: {name} }}
spec:
  hosts: [{{ name: only, hostRef: {{ name: {host} }}, upstreamModel: {upstream_model} }}]
  maxOutputTokens: 8192
  traits: {{ {traits} }}
"""


def pool(shape, upstream):
    """A model whose host has one good key and one of each failing class."""
    name = f"{shape}-host"
    keys = [host_key(f"{shape}-{key}", name, key) for key in ["good", "invalid", "limited", "broken"]]
    return [host(name, shape, upstream), *keys, model(f"{shape}-model", shape, name, "demo")]


def failing(shape, status, upstream):
    """A model that fails with a status, at a host of its own: its failures take its key out, and no other."""
    name = f"{shape}-fails-{status}"
    return [host(name, shape, upstream), host_key(name, name, "good"), model(name, shape, name, f"fail-{status}")]


def manifests(upstream):
    objects = [pool(shape, upstream) for shape in SHAPES]
    objects += [failing(shape, status, upstream) for shape in SHAPES for status in STATUSES]
    objects.append([model("forbidden", "chat", "chat-host", "demo")])
    made = "---\n".join(document for documents in objects for document in documents)
    return (HERE / "manifests.yaml").read_text() + "---\n" + made


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
