"""README tells the truth: its commands exist and run, its tests and scripts are there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchsr.cli import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> Iterator[list[str]]:
    """The `batchsr` commands in README's blocks, as words."""
    for line in README.splitlines():
        match = re.match(r"    (?:\$ )?(batchsr .*)", line)
        if match:
            yield shlex.split(match[1].split("|")[0], comments=True)


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_every_command_shown_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = cli
    options: set[str] = set()
    for word in words[1:]:
        context = click.Context(command)
        options |= {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        if isinstance(command, click.Group) and (inner := command.get_command(context, word)) is not None:
            command = inner
        elif word.startswith("-"):
            known = options | ({"--out", "--done", "--failed"} if command.name == "print" else set())
            assert word in known, f"{command.name} has no {word}"
    assert not isinstance(command, click.Group), words


def test_every_command_is_in_readme_and_has_help() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help
        assert re.search(rf"`[^`|]*\b{name}\b[^`|]*`", README), f"README does not name {name}"


def test_every_test_that_readme_calls_a_proof_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", README))
    assert len(named) > 25
    written = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []


def test_every_script_is_in_readme_and_the_other_way_round() -> None:
    rows = re.findall(
        r"^\| (`[^|]*`) \|", README.split("`scripts/` has one command")[1].split("\n## ")[0], re.MULTILINE
    )
    named = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
    assert named == {path.name for path in (ROOT / "scripts").iterdir() if path.is_file()}


def test_the_first_command_restores_a_real_recording() -> None:
    environment = {**os.environ, "BATCHSR_VENV": sys.prefix}
    demo = subprocess.run(
        [sys.executable, "scripts/demo.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert demo.returncode == 0, demo.stderr
    assert "done: 1 files" in demo.stdout
    assert "$ batchsr work --variant tiny" in demo.stdout
