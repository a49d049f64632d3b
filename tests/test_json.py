"""What programs read: every answer of `--json` has the shape that docs/schema/ says, and docs/json.md shows it."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jsonschema
import numpy as np
import pytest
import soundfile
from person import Person
from program import FAST_MODEL, Program

from batchsr.cli import cli
from batchsr.cli.app import SCHEMA
from batchsr.queue import Outcome, State

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "json.md").read_text()
SCHEMAS = {path.name.removesuffix(".schema.json"): path for path in sorted((ROOT / "docs" / "schema").iterdir())}
BLOCKS = [block.splitlines() for block in re.findall(r"(?:^    .*\n)+", PAGE, re.MULTILINE) if "    $ batchsr" in block]
"""Of the page: a command, and beneath it lines of its answer."""


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command


WITH_JSON = {
    "-".join(words) for words, command in commands(cli) if any("--json" in param.opts for param in command.params)
}


def closed(schema: Any) -> Any:
    """The same schema, in which no object has a field that is not described."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    if "required" in made and "properties" in made and "additionalProperties" not in made and "type" in made:
        made["unevaluatedProperties"] = False
    return made


def fit(name: str, text: str, *, strict: bool = True) -> list[dict[str, Any]]:
    """The objects in the lines of an answer, each of the shape of this name."""
    schema = json.loads(SCHEMAS[name].read_text())
    validator = jsonschema.Draft202012Validator(closed(copy.deepcopy(schema)) if strict else schema)
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines, f"{name} answered nothing"
    for line in lines:
        for own in validator.schema.get("oneOf", ()):  # one of many shapes: its own says best what is wrong
            said = own["properties"].get("event") or own["properties"]["outcome"]
            if line.get("event", line.get("outcome")) == said.get("const"):
                jsonschema.Draft202012Validator(own).validate(line)
        validator.validate(line)
        assert next(iter(line)) == "schema"
    return lines


def named(words: list[str]) -> str:
    """The name of the schema of a command line."""
    for length in (2, 1):
        if "-".join(words[:length]) in SCHEMAS:
            return "-".join(words[:length])
    raise AssertionError(words)


def test_every_command_with_json_has_a_schema_and_a_place_on_the_page() -> None:
    assert set(SCHEMAS) == WITH_JSON
    for name, path in SCHEMAS.items():
        schema = json.loads(path.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f"(schema/{path.name})" in PAGE, f"docs/json.md does not link the schema of {name}"
        numbers = re.findall(r'"schema": \{\s*"const": (\d+)', path.read_text())
        assert set(map(int, numbers)) == {SCHEMA}, name


def test_every_example_of_the_page_is_of_its_shape() -> None:
    assert {named(shlex.split(block[0])[2:]) for block in BLOCKS} >= {"enqueue", "work", "status", "list", "show"}
    for block in BLOCKS:
        fit(named(shlex.split(block[0])[2:]), "\n".join(block[1:]))


def test_every_outcome_and_state_is_in_the_schemas() -> None:
    taken = json.loads(SCHEMAS["enqueue"].read_text())["oneOf"][0]["properties"]
    assert set(taken["outcome"]["enum"]) == set(Outcome)
    assert set(taken["state"]["enum"]) == {*State, None}
    assert set(json.loads(SCHEMAS["list"].read_text())["properties"]["state"]["enum"]) == set(State)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A program in a folder with a recording and a page that calls itself one."""
    one = Program(tmp_path_factory.mktemp("json"))
    one.environment |= FAST_MODEL | {"XDG_CACHE_HOME": str(one.folder / "cache")}
    soundfile.write(one.folder / "call.wav", np.random.default_rng(1).uniform(-0.1, 0.1, 4_000), 8_000)
    (one.folder / "page.wav").write_text("<html>log in</html>" * 50)
    return one


def test_the_commands_of_the_page_answer_as_it_shows(program: Program) -> None:
    """In its order, each line of the answer with the fields that the page shows of it."""
    for block in BLOCKS:
        words = shlex.split(block[0])[2:]
        name = named(words)
        command = [word.replace("int4", "fast") for word in words]
        answer = fit(name, program.run(*command, code=3 if name == "work" else None).stdout)
        for shown in map(json.loads, block[1:]):
            alike = [line for line in answer if line.get("event") == shown.get("event")]
            assert alike, shown
            assert any(line.keys() == shown.keys() for line in alike), (shown.keys(), alike[0].keys())


def test_what_the_page_does_not_show_has_its_shape_too(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Program(tmp_path)
    other.environment |= program.environment | {"BATCHSR_DB": str(other.db)}
    person = Person(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", np.random.default_rng(2).uniform(-0.1, 0.1, 2_000), 8_000)

    def answer(*words: str, code: int = 0) -> list[dict[str, Any]]:
        if words[0] == "watch" or "fast" in words:
            return fit(named(list(words)), other.run(*words, "--json", code=code).stdout)
        return fit(named(list(words)), person.run(*words, "--json", code=code).out)  # in this process: milliseconds

    answer("db", "migrate")
    answer("db", "path")
    answer("enqueue", "a.wav", "--dry-run")
    answer("enqueue", "a.wav", "b.wav", "nowhere.wav", "--batch", "packed", code=2)
    answer("enqueue", "a.wav", "--priority", "3")
    answer("edit", "1", "--priority", "4")
    answer("cancel", "2")
    answer("enqueue", "c.wav")
    answer("forget", "3", "--yes")
    answer("retry", "2")
    answer("pause", "a disk is swapped")
    events = answer("work", "--variant", "fast", code=75)
    assert [one["event"] for one in events if one["event"] != "phase"] == ["began", "paused", "ended"]
    answer("status")
    answer("resume")
    events = answer("work", "--variant", "fast", "--procs", "2", "--share-gpu")
    assert [one["event"] for one in events].count("done") == 2
    assert (events[0]["event"], events[-1]["event"], events[-1]["done"]) == ("began", "ended", 2)
    assert {one["worker"] for one in events[1:-1]} <= {1, 2}
    answer("show", "1")
    answer("report")
    answer("verify")
    answer("export", "--batch", "packed", "package")
    (tmp_path / "a_upsampled.wav").unlink()
    answer("verify", code=3)
    answer("undo", "2", "--yes")
    answer("undo", "1", "--yes", code=3)
    answer("retry", "2")
    answer("work", "--variant", "fast")
    os.makedirs(tmp_path / "there")
    os.link(tmp_path / "b.wav", tmp_path / "there" / "b.wav")
    answer("relocate", ".", "there", "--dry-run", code=3)
    answer("relocate", ".", "there", "--yes", code=3)
    answer("enqueue", "a.wav", "--dry-run", "--calibrate", "--variant", "fast")
    answer("enqueue", "a.wav", "--preview", "1", "--variant", "fast")
    answer("upsample", "a.wav", "--preview", "1", "--compare", "lowpass", "--variant", "fast")
    answer("run", "c.wav", "--variant", "fast", "--out", "own")
    answer("gc", "--older-than", "0", "--vacuum")
    answer("listen", "2")
    answer("explain", "b_upsampled.wav")
    answer("import-sidecars", ".", code=3)
    answer("upsample", "c.wav", "--variant", "fast")
    (tmp_path / "in").mkdir()
    os.link(tmp_path / "c.wav", tmp_path / "in" / "d.wav")
    answer("watch", "in", "--once", "--settle", "0")
    answer("config", "list")
    answer("config", "show")
    answer("models", "list")
    answer("db", "check")
    answer("db", "backup", "backup.db")
    answer("db", "restore", "backup.db")


def test_a_run_that_breaks_off_says_so_in_its_last_event(tmp_path: Path) -> None:
    program = Program(tmp_path)
    program.environment |= FAST_MODEL
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8_000)
    program.run("enqueue", "a.wav")
    said = program.run("work", "--variant", str(tmp_path), "--json", code=None)
    (last,) = fit("work", said.stdout)[-1:]
    assert last["event"] == "ended"
    assert last["exit_code"] == said.returncode != 0
    assert last["error_code"].startswith("model.")


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    from batchsr.cli.app import App

    App().emit({"rtf": float("nan"), "all": [float("inf"), {"x": float("-inf")}, 1.5]})
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "rtf": None, "all": [None, {"x": None}, 1.5]}


@pytest.mark.parametrize(
    ("words", "needs"),
    [(("models", "check", "tiny"), "parameters"), (("models", "pull", "tiny"), "path"), (("doctor",), "backend")],
)
def test_what_loads_a_model_has_its_shape(program: Program, words: tuple[str, ...], needs: str) -> None:
    (line,) = fit(named(list(words)), program.run(*words, "--json").stdout)
    assert needs in line


def test_evaluate_has_its_shape(program: Program) -> None:
    clips = program.folder / "clips"
    clips.mkdir()
    soundfile.write(clips / "full.wav", np.random.default_rng(3).uniform(-0.1, 0.1, 24_000), 48_000)
    fit("evaluate", program.run("evaluate", "clips", "--rate", "8000", "--seconds", "0.2", "--json").stdout)
