"""Every command has a man page that says what its help says, and that `man` reads without a complaint."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batchsr.cli import cli

ROOT = Path(__file__).resolve().parent.parent


def names(command: click.Command, name: str = "batchsr") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from names(below, f"{name}-{word}")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, "scripts/man_pages.py", folder], cwd=ROOT, check=True, capture_output=True)
    return folder


def test_every_command_has_a_page_with_its_options(pages: Path) -> None:
    commands = dict(names(cli))
    assert {path.stem for path in pages.iterdir()} == set(commands)
    assert {"batchsr-work", "batchsr-models-pull"} <= set(commands)
    for name, command in commands.items():
        text = (pages / f"{name}.1").read_text().replace("\\-", "-")
        for param in command.params:
            if isinstance(param, click.Option):
                assert (param.opts[-1] in text) != param.hidden, f"{name} {param.opts}"
        assert "..." not in text.split(".SH SYNOPSIS")[0], f"{name}: its first sentence is cut"
        assert "`" not in text


def test_man_reads_every_page_without_a_complaint(pages: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff on this machine")
    found = sorted(map(str, pages.iterdir()))
    read = subprocess.run([groff, "-man", "-Tutf8", "-ww", *found], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "")
    assert "Restore what is queued" in " ".join(read.stdout.split())
