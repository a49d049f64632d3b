"""The shell completes whatever has a name here: profiles, variants, batches, numbers of jobs, states, codes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from person import Person

from batchsr.cli import cli
from batchsr.cli.variant import VariantType

NAMED = ("profile", "profile_", "batch", "to_batch", "ids", "job_id", "what", "error")
"""Parameters whose values have names that the program knows."""


def parameters(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Parameter]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from parameters(below, f"{path} {name}")
    else:
        yield from ((path, param) for param in command.params)


def test_every_parameter_that_takes_a_name_completes_it() -> None:
    seen = set()
    for path, param in parameters(cli):
        if param.name in NAMED:
            assert param._custom_shell_complete is not None, f"{path} {param.name}"
        elif param.name in ("variant", "variants"):
            assert isinstance(param.type, VariantType), path
        elif param.name in ("state", "states"):
            assert isinstance(param.type, click.Choice), path
        else:
            continue
        seen.add(param.name)
    assert {*NAMED, "variant", "states"} <= seen


@pytest.fixture
def queued(tmp_path: Path) -> Person:
    person = Person(tmp_path)
    person.run("enqueue", *person.record("a.wav", "b.wav"), "--batch", "calls")
    return person


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        (["list", "--state"], "qua", {"quarantined"}),
        (["list", "--error"], "input.f", {"input.format"}),
        (["retry", "--error"], "input.*", {"input.*"}),
        (["verify"], "", {"1", "2"}),
        (["listen"], "2", {"2"}),
        (["show"], "1", {"1"}),
        (["edit", "1", "--to-batch"], "c", {"calls"}),
        (["report", "--batch"], "", {"calls"}),
        (["edit", "1", "--profile"], "sp", {"speech"}),
        (["work", "--variant"], "t", {"tiny"}),
        (["models", "check"], "int", {"int4", "int8"}),
    ],
)
def test_what_there_is_is_completed(queued: Person, words: list[str], incomplete: str, expected: set[str]) -> None:
    completer = ShellComplete(cli, {}, "batchsr", "_BATCHSR_COMPLETE")
    found = completer.get_completions(["--db", str(queued.db), *words], incomplete)
    assert {item.value for item in found} == expected


def test_listen_leaves_names_of_files_to_the_shell(queued: Person) -> None:
    completer = ShellComplete(cli, {}, "batchsr", "_BATCHSR_COMPLETE")
    (item,) = completer.get_completions(["--db", str(queued.db), "listen"], "tape")
    assert (item.value, item.type) == ("tape", "file")
