"""The examples for hosts of a fleet: a container, a Slurm array and a systemd unit are what those programs take."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batchsr.cli import cli
from batchsr.intake.services import STOP_TIMEOUT_S

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "configs" / "fleet"


def takes(words: list[str]) -> None:
    """Let the command line read the words as `batchsr` would; nothing is run. Fails on what it does not know."""
    with click.Context(cli) as context:
        name, command, rest = cli.resolve_command(context, list(words))
        assert command is not None
        command.make_context(name, rest, parent=context)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return (instruction, rest) of a Containerfile's lines, comments left out and continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", text).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def test_the_container_runs_a_worker_that_may_stop_in_its_time_and_not_as_root() -> None:
    text = (EXAMPLES / "Containerfile").read_text()
    found = instructions(text)
    by_name = dict(found)
    takes(json.loads(by_name["CMD"]))
    assert json.loads(by_name["ENTRYPOINT"]) == ["batchsr"]
    assert (by_name["USER"], by_name["STOPSIGNAL"]) == ("batchsr", "SIGTERM")
    assert f"--time {STOP_TIMEOUT_S}" in text
    assert "/" not in by_name["FROM"]
    scratch = re.search(r"BATCHSR_FLEET_FOLDER=(\S+)", by_name["ENV"])
    assert scratch is not None
    assert scratch[1] in json.loads(by_name["VOLUME"])
    for name, rest in found:
        if name == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)


def test_the_slurm_array_hands_each_task_a_worker_with_its_own_disk(tmp_path: Path) -> None:
    script = EXAMPLES / "slurm.sh"
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nenv | grep ^BATCHSR_\necho "$@"\n')
    srun.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_TMPDIR": "/local/7"}
    run = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=True)
    *variables, words = run.stdout.splitlines()
    assert "BATCHSR_FLEET_FOLDER=/local/7/batchsr" in variables
    assert words.split()[0] == "batchsr"
    takes(words.split()[1:])
    options = dict(re.findall(r"(?m)^#SBATCH --([\w-]+)=(\S+)$", script.read_text()))
    hours, minutes, _ = map(int, options["time"].split(":"))
    taken_h = int(re.search(r"--for (\d+)h", words)[1])  # type: ignore[index]
    assert 60 * hours + minutes >= 60 * taken_h + STOP_TIMEOUT_S / 60, "no time left for the files in hand"
    assert options["signal"] == f"TERM@{STOP_TIMEOUT_S}"


def test_the_unit_passes_systemds_own_check_and_stops_like_the_one_that_the_program_writes(tmp_path: Path) -> None:
    text = (EXAMPLES / "batchsr-fleet.service").read_text()
    line = re.search(r"(?m)^ExecStart=/opt/batchsr/bin/batchsr (.+)$", text)
    assert line is not None
    takes(line[1].split())
    assert f"TimeoutStopSec={STOP_TIMEOUT_S}\n" in text
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not on this machine")
    unit = tmp_path / "batchsr-fleet.service"
    unit.write_text(text.replace("/opt/batchsr/bin/batchsr", sys.executable).replace("User=batchsr", "User=root"))
    result = subprocess.run([analyze, "--man=no", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_variable_of_the_examples_is_one_that_the_program_reads() -> None:
    named = {name for path in EXAMPLES.iterdir() for name in re.findall(r"BATCHSR_[A-Z_]+", path.read_text())}
    source = "\n".join(path.read_text() for path in (ROOT / "batchsr").rglob("*.py"))
    assert named >= {"BATCHSR_FLEET", "BATCHSR_ROOTS", "BATCHSR_FLEET_FOLDER"}
    assert [name for name in sorted(named) if f'"{name}"' not in source] == []
