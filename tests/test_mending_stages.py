"""`--declick` and `--dehum` in a restoration: on record, resumable to the byte, and nothing where they are off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from rig import serving
from test_restore import FakeModel, Stop, run, task_for

from batchsr.errors import ConfigError
from batchsr.restoration import sidecar as sidecars
from batchsr.restoration.restore import restore
from batchsr.settings.profile import Settings

RATE = 16_000


def transfer(path: Path, seconds: float = 9.0, *, clicks: int = 40, channels: int = 1) -> Path:
    """A dull recording (all of it below 3 kHz) with clicks, which are not dull, and hum."""
    rng = np.random.default_rng(3)
    spectrum = np.fft.rfft(rng.standard_normal((round(seconds * RATE), channels)), axis=0)
    spectrum[round(3_000 * seconds) :] = 0
    x = np.fft.irfft(spectrum, round(seconds * RATE), axis=0)
    x *= 0.1 / np.abs(x).max()
    x += 1e-4 * rng.standard_normal(x.shape)  # the floor that every recorder has
    time_s = np.arange(len(x))[:, None] / RATE
    x += 0.02 * np.sin(2 * np.pi * 50.02 * time_s) + 0.01 * np.sin(2 * np.pi * 100.04 * time_s)
    for at in rng.integers(100, len(x) - 100, clicks):
        x[at : at + 3] += rng.uniform(-0.8, 0.8)
    soundfile.write(path, x, RATE, subtype="PCM_24")
    return path


def stages_of(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {stage["name"]: stage for stage in report["stages"]}


def test_clicks_and_hum_are_gone_from_the_output_and_the_sidecar_says_what_was_done(tmp_path: Path) -> None:
    source = transfer(tmp_path / "a.wav")
    clean = transfer(tmp_path / "clean.wav", clicks=0)
    outputs = {}
    for name, file, changes in (
        ("raw", source, {}),
        ("mended", source, {"declick": 6.0, "dehum": "auto"}),
        ("wanted", clean, {"dehum": "auto"}),
    ):
        settings = Settings(overlap=0.02, subtype="FLOAT", **changes)  # type: ignore[arg-type]
        provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
        task = task_for(file, tmp_path / f"{name}.out.wav", settings=settings, provenance=provenance)
        report = run(task, FakeModel(hiss=0)).report
        outputs[name] = soundfile.read(task.output)[0]
        if name == "mended":
            found = {stage: entry["found"] for stage, entry in stages_of(report).items()}
            schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
            written = json.loads(sidecars.sidecar_path(task.output).read_text())
            jsonschema.Draft202012Validator(schema).validate(written)
            assert [stage["name"] for stage in written["stages"]] == ["declick", "dehum"]
    assert 0 < found["declick"]["touched_share"] < 0.01
    assert found["declick"]["stepped_back"] is False
    assert (found["dehum"]["base_hz"], found["dehum"]["multiples"]) == (50.0, [[1, 2]])
    error = [float(np.sum(np.square(outputs[name] - outputs["wanted"]))) for name in ("raw", "mended")]
    assert error[1] < error[0] / 100


def test_a_restoration_with_stages_stopped_at_any_window_ends_with_the_same_bytes(tmp_path: Path) -> None:
    batch = 3
    source = transfer(tmp_path / "a.wav", 8.2, channels=2)
    settings = Settings(overlap=0.02, declick=5.0, dehum="auto", keep_band=True, lowpass="auto")
    whole = run(task_for(source, tmp_path / "whole.wav", settings=settings), _long(batch))
    for stop_at in (1, whole.windows_total // 2, whole.windows_total):
        task = task_for(source, tmp_path / f"stopped{stop_at}.wav", settings=settings)
        with pytest.raises(Stop):
            run(task, _long(batch), stop_at=stop_at)
        again = run(task_for(source, task.output, settings=settings, tag="1-2"), _long(batch))
        assert again.output_sha256 == whole.output_sha256
        assert again.windows_resumed >= stop_at


def _long(batch: int) -> FakeModel:
    """With windows of a second, so that there are few of them."""

    class Long(FakeModel):
        frame_samples = 48_000

        def windows(self, timestep: int, seed: int):  # type: ignore[no-untyped-def]
            return lambda x, indices: x * np.float32(0.5)

    return Long(batch)


def test_the_cutoff_is_found_behind_the_clicks(tmp_path: Path) -> None:
    """Clicks reach to the end of the band: with them in, the recording would pass for one that needs no model."""
    source = transfer(tmp_path / "a.wav", 8.5, clicks=15)
    cutoffs = {}
    for declick in ("off", 5.0):
        settings = Settings(overlap=0.02, lowpass="auto", declick=declick)  # type: ignore[arg-type]
        report = run(task_for(source, tmp_path / f"{declick}.wav", settings=settings), FakeModel()).report
        cutoffs[declick] = report["treatment"]
    assert abs(cutoffs[5.0]["lowpass_hz"] - 3_000) < 300
    assert cutoffs["off"]["lowpass_hz"] is None or cutoffs["off"]["lowpass_hz"] > 3_500


def test_a_stage_that_steps_back_leaves_the_recording_and_is_a_remark(tmp_path: Path) -> None:
    source = transfer(tmp_path / "a.wav", 2.0, clicks=300)
    on = run(task_for(source, tmp_path / "on.wav", settings=Settings(overlap=0.02, declick=4.0)), FakeModel())
    off = run(task_for(source, tmp_path / "off.wav", settings=Settings(overlap=0.02)), FakeModel())
    assert stages_of(on.report)["declick"]["found"]["stepped_back"] is True
    assert [remark["code"] for remark in on.report["source"]["remarks"]] == ["input.clicks_everywhere"]
    assert on.output_sha256 == off.output_sha256


def test_mono_is_mended_as_the_mean_that_it_is(tmp_path: Path) -> None:
    source = transfer(tmp_path / "a.wav", 8.5, channels=2)
    settings = Settings(overlap=0.02, channels="mono", declick=6.0, dehum="auto")
    report = run(task_for(source, tmp_path / "b.wav", settings=settings), FakeModel()).report
    assert list(stages_of(report)) == ["mono", "declick", "dehum"]
    assert len(stages_of(report)["dehum"]["found"]["multiples"]) == 1


def test_the_passes_before_the_first_window_can_be_stopped(tmp_path: Path) -> None:
    source = transfer(tmp_path / "a.wav", 8.5)
    task = task_for(source, tmp_path / "b.wav", settings=Settings(overlap=0.02, declick=6.0, dehum="auto"))

    def stop() -> None:
        raise Stop

    with serving(FakeModel()) as batcher, pytest.raises(Stop):
        restore(task, batcher, on_windows=lambda *_: None, before_publish=lambda _: None, alive=stop)
    assert not task.output.exists()


@pytest.mark.parametrize("value", [3.9, 10.1, "auto", True, None, -6.0, float("nan")])
def test_a_threshold_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="declick"):
        Settings(declick=value)  # type: ignore[arg-type]


def test_no_digest_changes_where_no_stage_is_asked_for() -> None:
    assert not {"declick", "dehum", "rate"} & set(json.loads(Settings().to_json()))
    assert Settings(declick=6.0).digest() != Settings().digest() != Settings(dehum="auto").digest()
    assert Settings.from_json(Settings(declick=6.0, dehum="auto").to_json()).declick == 6.0
    # What the canonical form of the first queues hashed to.
    assert Settings().digest() == "70a092368952eecec908333fdcc810e3dfc7800e3a2d43de797bce9d5c7d3fe9"


def test_the_record_does_not_call_the_recording_itself_what_was_mended(tmp_path: Path) -> None:
    source = transfer(tmp_path / "a.wav", 8.5, clicks=15)
    for changes, words in (({}, ""), ({"declick": 6.0, "dehum": "auto"}, "de-clicked and de-hummed")):
        settings = Settings(overlap=0.02, keep_band=True, lowpass=3_000.0, **changes)  # type: ignore[arg-type]
        note = run(task_for(source, tmp_path / f"{len(words)}.wav", settings=settings), FakeModel()).report["note"]
        assert ("it is the recording itself as it was de-clicked and de-hummed." in note) is bool(words)
        assert ("The recording was de-clicked and de-hummed before." in note) is bool(words)
    assert "made by a trained model" in note
