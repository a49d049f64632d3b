"""The CI of hosted machines: it cannot run here, so its form is checked and what it calls exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from program import Program

ROOT = Path(__file__).resolve().parent.parent
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def checked(path: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_workflow_has_the_form_that_github_wants(tmp_path: Path) -> None:
    done = checked(WORKFLOW)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "ci.yml"
    broken.write_text(WORKFLOW.read_text().replace("runs-on:", "run-on:"))
    assert checked(broken).returncode != 0, "the check sees a wrong key"


def test_the_workflow_runs_on_apple_silicon_and_linux_what_exists(program: Program) -> None:
    text = WORKFLOW.read_text()
    assert re.search(r"os: \[ubuntu-[\d.]+, macos-1[45]\]", text)
    for words in re.findall(r"batchsr ([a-z]+)", text):
        assert program.run(words, "--help").stdout
    for name in re.findall(r"tests/data/\S+", text):
        assert (ROOT / name).is_file()
    assert "--share" in program.run("doctor", "--help").stdout
