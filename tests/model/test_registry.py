"""Models behind the interface: names lead to them, and what is promised of one holds for all."""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pytest
import rig
import soundfile
from program import Program

from batchsr import FlashSR
from batchsr.cli.variant import model_option, variant_of
from batchsr.errors import UsageError
from batchsr.models import registry
from batchsr.models.interface import WindowModel


@pytest.fixture(params=["flashsr", *registry.WITHOUT_WEIGHTS])
def model(request: pytest.FixtureRequest, tiny_folder: Path) -> WindowModel:
    """Every model that is registered, loaded."""
    variant = tiny_folder if request.param == registry.FLASHSR else request.param
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
    assert len(model.identity.weights_sha256) == 64


def test_every_model_can_be_chosen_on_the_command_line() -> None:
    command = model_option(click.command()(lambda model: None))
    assert list(command.params[0].type.choices) == list(registry.MODELS)


def test_names_lead_to_models(tiny_folder: Path) -> None:
    assert isinstance(registry.load(tiny_folder, device="cpu"), FlashSR)
    assert not isinstance(registry.load("resample"), FlashSR)


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


@pytest.mark.parametrize(("model", "variant"), [("resample", "int4"), ("flashsr", "resample")])
def test_a_model_and_a_variant_of_another_are_refused(model: str, variant: str) -> None:
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
    (job,) = program.jobs()
    assert (job["state"], job["attempts"]) == ("done", 2)
    assert job["windows_resumed"] > 0
    resumed = (program.folder / "out" / "a_upsampled.wav").read_bytes()
    program.run("upsample", source, "-o", program.folder / "once.wav", "--model", "resample")
    assert (program.folder / "once.wav").read_bytes() == resumed
