"""The OpenAI SDK for JavaScript: runs its own test file with node's test runner."""

import os
import subprocess

from conftest import TOKEN


def test_the_javascript_sdk(relay, release):
    place = os.environ[f"RELAY_JS_{release.upper()}"]
    environment = {**os.environ, "RELAY_URL": relay, "RELAY_TOKEN": TOKEN}
    ran = subprocess.run(["node", "--test", "openai.test.mjs"], cwd=place, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "# pass 0" not in ran.stdout
