"""One file without a queue: `restore_file`, and `FlashSR.upsample` for arrays, take the options of the command line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import rig
import soundfile

from batchsr import restore_file
from batchsr.errors import (
    ConfigError,
    InputFormat,
    InputLimits,
    OutputExists,
    OutputIsSource,
    ResourceError,
    TransientError,
)
from batchsr.restoration import single
from batchsr.settings.profile import Settings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "batchsr" / "upsample"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return rig.record(tmp_path / "call.wav", 2.0)


def test_a_file_is_restored_by_its_name_alone(source: Path, cache: Path) -> None:
    calls: list[tuple[int, int]] = []
    done = restore_file(str(source), model=rig.FastModel(), progress=lambda *counts: calls.append(counts))
    output = source.with_name("call_upsampled.wav")
    assert soundfile.info(output).samplerate == 48_000
    assert json.loads(Path(f"{output}.json").read_text())["output"]["sha256"] == done.output_sha256
    assert calls[0] == (0, done.windows_total)
    assert calls[-1] == (done.windows_total, done.windows_total)
    assert list(cache.iterdir()) == []


def test_options_are_those_of_the_command_line_and_a_wrong_one_is_named(source: Path, tmp_path: Path) -> None:
    done = restore_file(source, tmp_path / "o.flac", model=rig.FastModel(), format="flac", subtype="PCM_16", seed=3)
    assert done.report["settings"]["seed"] == 3
    assert soundfile.info(tmp_path / "o.flac").subtype == "PCM_16"
    with pytest.raises(ConfigError, match="sede"):
        restore_file(source, tmp_path / "p.wav", model=rig.FastModel(), sede=3)


def test_what_was_finished_is_kept_and_the_same_call_goes_on_to_the_same_bytes(
    source: Path, tmp_path: Path, cache: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= total // 2:
            raise Stopped

    with pytest.raises(Stopped):
        restore_file(source, tmp_path / "o.wav", model=rig.FastModel(), progress=stop)
    assert not (tmp_path / "o.wav").exists()
    assert [path.suffix for path in cache.iterdir() if path.suffix == ".slots"] == [".slots"]
    again = restore_file(source, tmp_path / "o.wav", model=rig.FastModel())
    whole = restore_file(source, tmp_path / "p.wav", model=rig.FastModel())
    assert again.windows_resumed >= again.windows_total // 2
    assert whole.windows_resumed == 0
    assert (tmp_path / "o.wav").read_bytes() == (tmp_path / "p.wav").read_bytes()


def test_two_processes_do_not_restore_one_file_at_once(source: Path, tmp_path: Path) -> None:
    def inner(done: int, total: int) -> None:
        with pytest.raises(TransientError, match="another process"):
            restore_file(source, tmp_path / "o.wav", model=rig.FastModel())

    restore_file(source, tmp_path / "o.wav", model=rig.FastModel(), progress=inner)


@pytest.mark.parametrize("at", ["mkdir", "open"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_cache_that_may_not_be_written_stops_no_restoration_and_a_full_one_does(
    source: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, at: str, number: int
) -> None:
    cache.mkdir(parents=True) if at == "open" else cache.parent.parent.mkdir()
    real = getattr(os, at)

    def closed(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path).startswith(str(cache.parent)):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, at, closed)
    notices: list[str] = []

    def run() -> None:
        single.restore_one(
            source, tmp_path / "o.wav", Settings(), rig.FastModel, overwrite=False, on_windows=lambda *_: None,
            on_notice=notices.append,
        )  # fmt: skip

    if number == errno.ENOSPC:
        with pytest.raises(ResourceError, match="cache"):
            run()
        assert not (tmp_path / "o.wav").exists()
    else:
        run()
        assert soundfile.info(tmp_path / "o.wav").samplerate == 48_000
        assert "begins anew" in notices[0]
        assert str(cache) in notices[0] or str(cache.parent) in notices[0]


def test_other_settings_do_not_take_up_windows_that_were_made_with_these(source: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyError

    with pytest.raises(KeyError):
        restore_file(source, tmp_path / "o.wav", model=rig.FastModel(), progress=stop, seed=1)
    assert restore_file(source, tmp_path / "o.wav", model=rig.FastModel(), seed=2).windows_resumed == 0


def test_checkpoints_of_two_files_never_meet(tmp_path: Path) -> None:
    names = {single.checkpoints_of(tmp_path / a, tmp_path / b) for a in "ab" for b in "cd"}
    assert len(names) == 4


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> Any:
    from batchsr.models.flashsr.model import FlashSR

    return FlashSR.from_pretrained("tiny", device="cpu")


def band(rate_hz: int, seconds: float, top_hz: float, channels: int = 1) -> np.ndarray:
    """Noise up to a frequency."""
    count = int(rate_hz * seconds)
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal((count, channels)), axis=0)
    spectrum[np.fft.rfftfreq(count, 1 / rate_hz) > top_hz] = 0
    sound = np.fft.irfft(spectrum, count, axis=0)
    return (0.2 * sound / np.abs(sound).max()).astype(np.float32)


def test_an_array_with_its_channels_first_is_refused_at_once_by_its_shape(tiny: Any) -> None:
    with pytest.raises(InputFormat, match=r"\(2, 160000\).*\(samples, channels\)"):
        tiny.upsample(np.zeros((2, 160_000), np.float32), 16_000)
    with pytest.raises(InputLimits, match="65 channels"):
        tiny.upsample(np.zeros((100, 65), np.float32), 16_000)


def test_rates_that_are_whole_numbers_are_taken_as_floats_and_others_are_not(tiny: Any) -> None:
    x = band(8_000, 0.2, 3_000)[:, 0]
    assert np.array_equal(tiny.upsample(x, 8_000.0), tiny.upsample(x, 8_000))
    with pytest.raises(InputLimits, match=r"8000\.5"):
        tiny.upsample(x, 8_000.5)


@pytest.mark.parametrize(("dtype", "full_scale"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_have_their_full_scale_at_one(tiny: Any, dtype: type, full_scale: int) -> None:
    x = band(8_000, 0.2, 3_000)[:, 0]
    integers = np.round(x * full_scale).astype(dtype)
    floats = (integers / full_scale).astype(np.float32)
    assert np.array_equal(tiny.upsample(integers, 8_000), tiny.upsample(floats, 8_000))
    with pytest.raises(InputFormat, match="uint8"):
        tiny.upsample(np.zeros(100, np.uint8), 8_000)


def test_the_kept_band_of_an_array_is_the_recording_itself(tiny: Any) -> None:
    x = band(16_000, 1.0, 6_000)[:, 0]
    y = tiny.upsample(x, 16_000, keep_band=True)
    from batchsr.audio.resample import resample

    known = resample(x[:, None], 16_000)[:, 0]
    below = np.fft.rfftfreq(len(y), 1 / 48_000) < 4_000
    difference = np.fft.rfft(y - known)[below]
    assert np.linalg.norm(difference) < 10 ** (-30 / 20) * np.linalg.norm(np.fft.rfft(known)[below])


@pytest.mark.parametrize(
    "options", [{}, {"lowpass": "auto"}, {"lowpass": 3_000.0, "keep_band": True}, {"channels": "mono"}], ids=str
)
def test_an_array_is_restored_as_a_file_with_the_same_options(
    tiny: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    x = band(8_000, 1.0, 3_200, channels=2)
    soundfile.write(tmp_path / "in.wav", x, 8_000, subtype="FLOAT")
    restore_file(tmp_path / "in.wav", tmp_path / "out.wav", model=tiny, subtype="FLOAT", **options)
    from_file, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    from_array = tiny.upsample(x, 8_000, **options)
    assert from_array.shape == from_file.shape
    assert np.abs(from_array - from_file).max() < 1e-5


def test_a_full_band_array_is_only_resampled_with_lowpass_auto(tiny: Any) -> None:
    beats = np.repeat(np.random.default_rng(2).uniform(0, 1, 40) ** 3, 2_400)  # a band is found by what moves
    x = (np.random.default_rng(3).uniform(-0.3, 0.3, 96_000) * beats).astype(np.float32)
    assert np.array_equal(tiny.upsample(x, 48_000, lowpass="auto"), x)


def test_a_wrong_option_of_an_array_is_named(tiny: Any) -> None:
    for options, word in (
        ({"lowpass": "on"}, "lowpass"),
        ({"channels": "left"}, "channels"),
        ({"keep_band": 3}, "keep"),
    ):
        with pytest.raises(ConfigError, match=word):
            tiny.upsample(np.zeros(100, np.float32), 8_000, **options)


def test_an_output_that_may_not_be_made_is_told_before_the_model_is_loaded(source: Path, tmp_path: Path) -> None:
    class Never:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError("the model was asked")

    (there := tmp_path / "there.wav").write_bytes(b"another's")
    for output, error in ((there, OutputExists), (source, OutputIsSource)):
        with pytest.raises(error):
            single.restore_one(source, output, Settings(), Never, overwrite=False, on_windows=lambda *_: None)
    assert there.read_bytes() == b"another's"


def test_what_a_restoration_gives_is_short_to_look_at(source: Path, tmp_path: Path) -> None:
    assert len(repr(restore_file(source, tmp_path / "out.wav", model=rig.FastModel()))) < 700
