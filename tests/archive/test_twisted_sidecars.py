"""A sidecar with any value in any field is a sentence that names the file, or does no harm; never a traceback."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import rig
from click.testing import CliRunner
from lxml import etree

from batchsr.cli import cli
from batchsr.errors import BatchsrError, SidecarForeign
from batchsr.queue.opening import open_queue
from batchsr.restoration import sidecar_form, sidecar_reading, sidecar_versions

VALUES: tuple[Any, ...] = (None, [], ["x", None], {}, {"x": [1]}, "", "x\ud800\udcff\ufffe\0/..", True, -1, 0.5, 10**40)
RAW = ("NaN", "1e999", "-Infinity")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A queue with one recording that is done, with a copy for access."""
    folder = tmp_path_factory.mktemp("made")
    source = rig.record(folder / "in" / "a.wav", 0.5)
    rig.enqueue(folder / "queue.db", [source], folder / "out", batch="tapes", settings={"also": "flac"})
    assert rig.work(folder / "queue.db").done == 1
    (folder / "p.toml").write_text(
        "clipping = false\nsidecar = true\nmin_loudness_lufs = -90\nmax_true_peak_dbtp = 9\n"
    )
    return folder


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a document, of tables and lists as well."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*at, key))


def put(document: Any, at: tuple[str | int, ...], value: Any) -> Any:
    twisted = copy.deepcopy(document)
    inner = twisted
    for key in at[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return twisted


def asked(made: Path, folder: Path) -> list[str]:
    """What each command says; none may fail but by a sentence of the program's."""
    output = made / "out" / "a_upsampled.wav"
    said = []
    for words in (
        ("explain", output),
        ("verify", "--policy", made / "p.toml"),
        ("export", "--batch", "tapes", folder / "package", "--premis"),
        ("undo", "1", "--dry-run"),
        ("import-sidecars", made / "out", "--dry-run"),
    ):
        db = folder / "none.db" if words[0] == "import-sidecars" else made / "queue.db"
        done = CliRunner().invoke(cli, ["--db", str(db), *map(str, words)])
        error = done.exception
        assert error is None or isinstance(error, SystemExit | BatchsrError), (words[0], repr(error))
        if isinstance(error, BatchsrError):
            assert "a_upsampled" in str(error), f"{words[0]} names no file: {error}"
        said.append(f"{words[0]} {done.exit_code}")
    shutil.rmtree(folder / "package", ignore_errors=True)
    return said


@pytest.fixture
def sidecar(made: Path) -> Iterator[Path]:
    path = made / "out" / "a_upsampled.wav.json"
    whole = path.read_bytes()
    yield path
    path.write_bytes(whole)


def test_any_value_in_any_field_leaves_a_document_of_the_published_form_or_none(sidecar: Path) -> None:
    document = json.loads(sidecar.read_bytes())
    kinds = jsonschema.Draft202012Validator(_without_required(sidecar_versions.schema()))
    for at in places(document):
        for value in (*VALUES, KeyError):
            data = json.dumps(put(document, at, value)).encode()
            record = parsed(sidecar, data)
            if record is None:
                continue
            newest = sidecar_versions.newest(record.document)
            kinds.validate(newest)
            assert newest["synthetic"]["sentence"]


def parsed(sidecar: Path, data: bytes) -> sidecar_reading.Record | None:
    """What is read; None where it is refused by name."""
    refused = pytest.RaisesExc(SidecarForeign, match=re.escape(str(sidecar)))
    try:
        return sidecar_reading.parse(sidecar, data)
    except SidecarForeign as e:
        if not refused.matches(e):
            raise
        return None


def _without_required(schema: Any) -> Any:
    """The schema of kinds alone: a part may be missing, and what is not known may be there."""
    if isinstance(schema, list):
        return [_without_required(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    loose = ("required", "enum", "const", "maxLength")
    made = {key: _without_required(one) for key, one in schema.items() if key not in loose or isinstance(one, dict)}
    if made.get("additionalProperties") is False:
        del made["additionalProperties"]
    return made


HARMLESS = (
    *(
        "note",
        "synthetic",
        "treatment",
        "stages",
        "job",
        "metadata",
        "program",
        "finished",
        "model.variant",
        "settings",
    ),
    *("source.band", "source.remarks", "source.format", "output.loudness", "output.loudness_lufs", "source.path"),
)


@pytest.mark.parametrize(
    ("places", "value"),
    [
        *((HARMLESS, value) for value in (*VALUES, KeyError)),
        *(((name,), value) for name in ("source", "output", "model", "copies") for value in (KeyError, ["x"])),
        *((("copies.0.path",), value) for value in (None, "", "..", VALUES[6])),
        *((("output.path",), value) for value in (None, "", VALUES[6])),
        (
            ("output.loudness.integrated_lufs", "output.loudness.max_true_peak_dbtp", "finished"),
            "0001-01-01T00:00+23:00",
        ),
    ],
    ids=str,
)
def test_no_command_falls_over_a_twisted_sidecar(
    made: Path, sidecar: Path, tmp_path: Path, places: tuple[str, ...], value: Any
) -> None:
    document = json.loads(sidecar.read_bytes())
    for at in places:
        document = put(document, tuple(int(key) if key.isdigit() else key for key in at.split(".")), value)
    sidecar.write_text(json.dumps(document))
    assert len(asked(made, tmp_path)) == 5


@pytest.mark.parametrize("raw", RAW)
def test_what_is_no_number_of_json_is_refused_by_name(made: Path, sidecar: Path, tmp_path: Path, raw: str) -> None:
    text = sidecar.read_text()
    for twisted in (text.replace('"rtf": ', f'"rtf": {raw}, "x": '), text.replace('"rtf"', f'"\\ud800": {raw}, "rtf"')):
        assert twisted != text
        sidecar.write_text(twisted)
        record = parsed(sidecar, sidecar.read_bytes())
        assert record is None or raw == "1e999"  # a number, and infinite; left out where its kind is known
        asked(made, tmp_path)


def test_what_was_twisted_is_told_by_explain_and_copies_that_are_not_named_by_verify(
    made: Path, sidecar: Path, tmp_path: Path
) -> None:
    document = json.loads(sidecar.read_bytes())
    sidecar.write_text(json.dumps(document | {"copies": ["x"], "stages": "x"}))
    output = str(made / "out" / "a_upsampled.wav")
    said = CliRunner().invoke(cli, ["explain", output]).output
    assert "left out here: copies.0, stages." in " ".join(said.split()) or "stages, copies.0." in " ".join(said.split())
    done = CliRunner().invoke(cli, ["--db", str(made / "queue.db"), "verify"])
    assert done.exit_code == 3
    assert "does not name its copy in flac" in done.output
    done = CliRunner().invoke(
        cli, ["--db", str(made / "queue.db"), "export", "--batch", "tapes", str(tmp_path / "package")]
    )
    assert "does not name its copy in flac" in str(done.exception)


def test_a_twisted_record_that_a_queue_keeps_does_no_harm_either(made: Path, tmp_path: Path) -> None:
    document = json.loads((made / "out" / "a_upsampled.wav.json").read_bytes())
    for at in (("output", "loudness"), ("synthetic",), ("copies",), ("output",)):
        for value in ([], "x", ["x"]):
            newest = sidecar_versions.newest(put(document, at, value))
            assert newest["synthetic"]["sentence"]
            assert isinstance(newest.get("output", {}).get("loudness", {}), dict)


def test_what_the_schema_does_not_know_stays(sidecar: Path) -> None:
    document = json.loads(sidecar.read_bytes()) | {"own": {"shelf": [1, "x"]}}
    fitted, dropped = sidecar_form.fitted(document, sidecar_versions.schema())
    assert fitted == document
    assert dropped == ()


def test_a_package_of_odd_texts_follows_the_schema_of_premis(made: Path, sidecar: Path, tmp_path: Path) -> None:
    document = json.loads(sidecar.read_bytes())
    document["finished"] = "20260101T000000Z"
    document["source"]["path"] = "/a\ufffe\x0b\ud800"
    sidecar.write_text(json.dumps(document))
    command = ["--db", str(made / "queue.db"), "export", "--batch", "tapes", str(tmp_path / "package"), "--premis"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    root = etree.parse(tmp_path / "package" / "metadata" / "premis.xml").getroot()
    names = [one.text for one in root.iter("{*}originalName")]
    assert "/a\\ufffe\\x0b\\ud800" in names
    assert "2026-01-01T00:00:00+00:00" in [one.text for one in root.iter("{*}eventDateTime")]


def test_a_thousand_nested_folders_are_walked(made: Path, tmp_path: Path) -> None:
    folder, above = tmp_path, []
    for _ in range(1_000):
        above.append(folder)
        folder = Path(os.path.join(folder, "d"))
        os.mkdir(folder)
    try:
        for path in (made / "out").iterdir():
            shutil.copy2(path, folder)
        done = CliRunner().invoke(cli, ["--db", str(tmp_path / "new.db"), "import-sidecars", str(tmp_path)])
        assert done.exit_code == 0, done.output
        with open_queue(tmp_path / "new.db") as queue:
            assert [job.output for job in queue.jobs()] == [str(folder / "a_upsampled.wav")]
    finally:  # what removes folders of tests nests its calls
        for path in folder.iterdir():
            path.unlink()
        for path in reversed(above):
            os.rmdir(os.path.join(path, "d"))
