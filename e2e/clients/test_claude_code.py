"""Claude Code, headless, completes a task of two turns with a file read, against an upstream of each shape."""

import json
import os
import subprocess

from conftest import TOKEN


def test_claude_code_reads_a_file(relay, tmp_path, any_model):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "note.txt").write_text("the canary is yellow\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ANTHROPIC_BASE_URL": relay,
        "ANTHROPIC_AUTH_TOKEN": TOKEN,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    note = tmp_path / "work" / "note.txt"
    command = [os.environ["RELAY_CLAUDE"], "-p", f"demo: read the file {note}", "--allowedTools", "Read"]
    command += ["--output-format", "json", "--model", any_model]
    ran = subprocess.run(command, cwd=tmp_path / "work", env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(ran.stdout)
    assert not result["is_error"], result
    assert result["num_turns"] == 2, result
    assert "the canary is yellow" in result["result"], result
