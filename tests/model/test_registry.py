"""Models behind the interface: names lead to them, and what is promised of one holds for all."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import numpy as np
import pytest
import rig
import second_model
import soundfile
from person import Person
from program import FAST_MODEL, Program

from batchsr import FlashSR
from batchsr.archive import explain
from batchsr.cli.variant import chosen_variant, model_option, variant_of
from batchsr.errors import ModelUnavailable, UsageError
from batchsr.models import registry
from batchsr.models.family import WithoutWeights
from batchsr.models.interface import WindowModel
from batchsr.queue import State
from batchsr.restoration import single
from batchsr.storage import sha256


@pytest.fixture
def blur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle of a second model with weights, which is in the registry as long as the test lasts."""
    folder = second_model.write(tmp_path / "blur-bundle")
    monkeypatch.setitem(registry.MODELS, "blur", second_model.ENTRY)
    monkeypatch.setenv("BATCHSR_BLUR", str(folder))
    return folder


@pytest.fixture
def person(tmp_path: Path, blur: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    monkeypatch.setattr(single.platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    return Person(tmp_path)


@pytest.fixture(params=[*registry.MODELS, "blur"])
def model(request: pytest.FixtureRequest, tiny_folder: Path, blur: Path) -> WindowModel:
    """Every model that is registered, and one more, loaded by the first of its names or from a folder."""
    variant = tiny_folder if request.param == registry.FLASHSR else variant_of(request.param, None)
    assert variant is not None
    return registry.load(variant, device="cpu")


def test_a_model_restores_rows_of_its_window_the_same_in_any_company(model: WindowModel) -> None:
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (3, model.frame_samples)).astype(np.float32)
    restore = model.windows(999, 0)
    together = restore(sound, [0, 1, 2])
    assert together.shape == sound.shape
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for index in range(3):
        assert np.array_equal(model.windows(999, 0)(sound[index : index + 1], [index])[0], together[index])
    assert model.batch_windows >= 1
    assert model.about in [entry.about for entry in registry.MODELS.values()]
    assert len(model.identity.weights_sha256) == 64


def test_every_model_can_be_chosen_on_the_command_line() -> None:
    command = model_option(click.command()(lambda model: None))
    assert list(command.params[0].type.choices) == list(registry.MODELS)


def test_names_lead_to_models(tiny_folder: Path) -> None:
    assert isinstance(registry.load(tiny_folder, device="cpu"), FlashSR)
    assert not isinstance(registry.load("resample"), FlashSR)


def test_a_folder_is_of_the_model_whose_bundle_it_holds_and_a_name_of_the_one_that_has_it(
    blur: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    assert isinstance(registry.load(blur), second_model.Blur)
    assert registry.load(blur).identity.variant == str(blur)
    for variant, name in (("blur", "blur"), (str(blur), "blur"), (tiny_folder, "flashsr"), ("resample", "resample")):
        assert registry.model_of(variant) == name
    with pytest.raises(ModelUnavailable, match="there is no model"):
        registry.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("model", "variant", "expected"),
    [
        (None, None, None),
        (None, "int4", "int4"),
        ("flashsr", "int8", "int8"),
        ("flashsr", None, None),
        ("resample", None, "resample"),
        ("resample", "resample", "resample"),
        (None, "resample", "resample"),
    ],
)
def test_model_and_variant_name_one_thing(model: str | None, variant: str | None, expected: str | None) -> None:
    assert variant_of(model, variant) == expected


@pytest.mark.parametrize(
    ("model", "variant"), [("resample", "int4"), ("flashsr", "resample"), ("blur", "tiny"), ("resample", "./folder")]
)
def test_a_model_and_a_variant_of_another_are_refused(blur: Path, model: str, variant: str) -> None:
    with pytest.raises(UsageError, match=f"--model {model} has no variant {variant}"):
        variant_of(model, variant)


def test_the_baseline_goes_through_work_with_a_sidecar_of_its_own(program: Program) -> None:
    source = rig.record(program.folder / "in" / "a.wav", 12.0, rate_hz=48_000)
    rig.enqueue(program.db, [source], program.folder / "out", settings={"subtype": "FLOAT"})
    program.run("work", "--model", "resample")
    sidecar = json.loads((program.folder / "out" / "a_upsampled.wav.json").read_text())
    assert sidecar["model"]["variant"] == "resample"
    assert sidecar["windows"]["total"] == 3
    given, _ = soundfile.read(source, dtype="float32")
    made, rate_hz = soundfile.read(program.folder / "out" / "a_upsampled.wav", dtype="float32")
    assert rate_hz == 48_000
    assert np.abs(made - given).max() < 1e-6, "windows join to what they were cut from"


def test_the_baseline_is_resumed_where_it_was_killed(program: Program) -> None:
    source = rig.record(program.folder / "in" / "a.wav", 30.0)
    rig.enqueue(program.db, [source], program.folder / "out")
    program.run("work", "--model", "resample", environment={"BATCHSR_FAULT": "slot.after_fsync:1"}, code=-9)
    program.run("work", "--model", "resample")
    job = rig.job_of(program.db, 1)
    assert (job.state, job.attempts) == (State.DONE, 2)
    assert job.windows_resumed
    resumed = (program.folder / "out" / "a_upsampled.wav").read_bytes()
    single.restore_file(source, program.folder / "once.wav", model=registry.load("resample"))
    assert (program.folder / "once.wav").read_bytes() == resumed


@pytest.mark.parametrize(
    ("model", "usual", "expected"),
    [
        (None, "int8", "int8"),
        (None, None, None),
        ("flashsr", "int8", "int8"),
        ("flashsr", "resample", "int4"),
        ("resample", "int8", "resample"),
        ("blur", None, "blur"),
    ],
)
def test_a_profile_s_variant_counts_unless_another_model_is_named(
    blur: Path, model: str | None, usual: str | None, expected: str | None
) -> None:
    assert chosen_variant(model, None, usual) == expected


def test_a_second_model_is_killed_resumed_and_on_record_as_any(program: Program, blur: Path) -> None:
    source = rig.record(program.folder / "in" / "a.wav", 1.0)
    rig.enqueue(program.db, [source], program.folder / "out", variant="blur")
    environment = {**FAST_MODEL, "BATCHSR_BLUR": str(blur)}
    fault = {"BATCHSR_FAULT": "slot.after_fsync:1"}
    program.run("work", "--model", "blur", environment={**environment, **fault}, code=-9)
    program.run("work", "--model", "blur", environment=environment)
    job = rig.job_of(program.db, 1)
    assert (job.state, job.attempts) == (State.DONE, 2)
    assert job.windows_resumed
    output = program.folder / "out" / "a_upsampled.wav"
    sidecar = json.loads(output.with_name(output.name + ".json").read_text())
    assert sidecar["model"]["variant"] == "blur"
    assert sidecar["model"]["weights_sha256"] == sha256(blur / "kernel.npy")
    assert sidecar["windows"]["resumed"] > 0
    assert sidecar["synthetic"]["above_hz"] == 4_000
    assert "The model blur" in "\n".join(explain.sentences(sidecar))
    single.restore_file(source, program.folder / "once.wav", model=registry.load("blur"))
    assert (program.folder / "once.wav").read_bytes() == output.read_bytes()


def test_every_command_that_takes_a_model_takes_a_second_one(person: Person, blur: Path) -> None:
    a, b, c, d = person.record("a.wav", "b.wav", "c.wav", "d.wav")
    for number, words in enumerate((("--variant", "blur"), ("--variant", blur), ("--variant", "resample"))):
        output = person.folder / f"{number}.wav"
        person.run("upsample", a, "-o", output, *words)
        assert json.loads(output.with_name(output.name + ".json").read_text())["model"]["variant"] == str(words[1])
    person.run("run", b, "--variant", blur)
    assert (person.job(1).state, person.job(1).variant) == (State.DONE, str(blur))
    person.run("enqueue", c, "--variant", "blur")
    person.run("enqueue", d, "--variant", "resample")
    person.run("work", "--variant", "blur")
    assert [person.job(number).state for number in (2, 3)] == [State.DONE, State.QUEUED]
    page = person.folder / "preview.html"
    person.run("upsample", a, "--model", "resample", "--preview", 1, "--compare", "blur", "--page", page)
    assert "blur" in page.read_text()
    assert person.run("models", "list", "--json").documents[-1]["path"] == str(blur)
    assert person.run("models", "check", "blur", "--json").documents[0]["ok"] is True
    assert "nothing to fetch" in person.run("models", "pull", "resample", code=69).err
    assert "resample, blur" in person.run("enqueue", d, "--variant", "unknown", code=69).err


@pytest.mark.parametrize("command", ["enqueue", "run", "work", "watch", "edit", "upsample", "evaluate", "doctor"])
def test_a_command_that_takes_a_model_takes_it_by_name(person: Person, command: str) -> None:
    assert "resample: the baseline without a model" in " ".join(person.run(command, "--help").out.split())


def test_models_are_evaluated_and_looked_over_by_name(person: Person) -> None:
    clips = person.folder / "clips"
    rig.record(clips / "noise_a.wav", 0.5, rate_hz=48_000)
    words = ("evaluate", clips, "--rate", 8000, "--json")
    found = person.run(*words, "--variant", "resample", "--variant", "blur").documents
    scores = {one["method"]: one["score"]["lsd"] for one in found}
    assert set(scores) == {"sinc", "replication", "resample", "resample+keep", "blur", "blur+keep"}
    assert scores["resample"] == pytest.approx(scores["sinc"], abs=0.2), "both add nothing"
    assert scores["blur"] != scores["resample"]
    assert "resample+keep" in {one["method"] for one in person.run(*words, "--model", "resample").documents}
    seen = person.run("doctor", "--model", "resample", "--json").documents[0]
    assert "nothing to test" in seen["self_test"]
    assert seen["models"] == {}


def test_a_worker_for_one_model_leaves_what_is_bound_to_another(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = WithoutWeights(dataclasses.replace(rig.ABOUT, name="tiny"), rig.FastModel)
    monkeypatch.setitem(registry.MODELS, registry.FLASHSR, registry.Entry(rig.ABOUT, lambda: tiny))
    a, b = person.record("a.wav", "b.wav")
    person.run("enqueue", a, "--model", "resample")
    person.run("enqueue", b, "--variant", "tiny")
    person.run("work", "--model", "flashsr")
    assert [person.job(number).state for number in (1, 2)] == [State.QUEUED, State.DONE]
