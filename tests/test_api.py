"""What programs call: every option that the docs promise, in the forms that people pass; errors say what to do."""

from __future__ import annotations

import doctest
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rig
import soundfile

import batchsr
from batchsr import FlashSR, restore_file
from batchsr.errors import BatchsrError, ConfigError, InputFormat, InputLimits
from batchsr.queue.opening import open_queue, preview_of, restore_backup
from batchsr.restoration.single import Restored

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model(bundle: Path) -> FlashSR:
    return FlashSR.from_pretrained(str(bundle))


X = np.random.default_rng(0).uniform(-0.1, 0.1, 800)


@pytest.mark.parametrize("function", [FlashSR.upsample, restore_file], ids=["upsample", "restore_file"])
def test_the_examples_in_the_docstrings_say_what_happens(
    function: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "jobs/recordings/phone/2004-01-05/call-17.wav", tmp_path / "call.wav")
    monkeypatch.chdir(tmp_path)
    names = {"np": np, "FlashSR": FlashSR}
    (found,) = [one for one in doctest.DocTestFinder(recurse=False).find(function, globs=names) if one.examples]
    result = doctest.DocTestRunner().run(found)
    assert (result.failed, result.attempted > 1) == (0, True)


@pytest.mark.parametrize("rate", [8_000, 8_000.0, np.int64(8_000), np.float32(8_000)])
def test_a_rate_is_any_number_of_whole_hertz(model: FlashSR, rate: float) -> None:
    assert np.array_equal(model.upsample(X, rate), model.upsample(X, 8_000))


@pytest.mark.parametrize(
    ("rate", "said"), [(8_000.5, "no whole number"), ("8000", "no number"), (None, "no number"), (10, "lies outside")]
)
def test_what_is_no_rate_is_refused_with_the_reason(model: FlashSR, rate: float, said: str) -> None:
    with pytest.raises(InputLimits, match=said):
        model.upsample(X, rate)


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_integers_are_taken_by_their_full_scale(model: FlashSR, kind: type[np.signedinteger]) -> None:
    whole = np.round(X * -float(np.iinfo(kind).min)).astype(kind)
    assert np.abs(model.upsample(whole, 8_000) - model.upsample(X, 8_000)).max() < 2e-3


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.bool_, np.complex64])
def test_other_kinds_of_numbers_are_refused_by_name(model: FlashSR, kind: type[np.generic]) -> None:
    with pytest.raises(InputFormat, match=np.dtype(kind).name):
        model.upsample(X.astype(kind), 8_000)


@pytest.mark.parametrize("shape", [(2, 800), (1, 800), (65, 800)])
def test_an_array_with_its_channels_first_is_refused_by_its_shape(model: FlashSR, shape: tuple[int, int]) -> None:
    with pytest.raises(InputFormat, match=rf"\({shape[0]}, {shape[1]}\).*pass x\.T"):
        model.upsample(np.zeros(shape, np.float32), 8_000)


def test_every_option_that_readme_names_is_taken(model: FlashSR) -> None:
    two = np.stack([X, X], axis=1)
    y = model.upsample(two, 8_000, lowpass=3_400, keep_band=True, channels="mono", timestep=999, seed=1, overlap=0.1)
    assert y.shape == (4_800, 1)
    assert y.dtype == np.float32
    with pytest.raises(ConfigError, match="lowpass"):
        model.upsample(X, 8_000, lowpass="low")  # type: ignore[arg-type]


def test_paths_may_be_text(tmp_path: Path) -> None:
    database = str(tmp_path / "q.db")
    with open_queue(database) as queue:
        queue.backup(tmp_path / "backup.db")
    with preview_of(database) as queue:
        assert queue.counts()["done"] == 0
    assert restore_backup(database, str(tmp_path / "backup.db")).jobs == 0


def test_a_file_that_was_stopped_goes_on_and_tells_how_far_it_is(model: FlashSR, tmp_path: Path) -> None:
    source = rig.record(tmp_path / "tape.wav", 4.0)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_file(str(source), str(tmp_path / "out.flac"), model=model, progress=stop)
    assert not (tmp_path / "out.flac").exists()
    done: Restored = restore_file(str(source), str(tmp_path / "out.flac"), model=model, progress=lambda *_: None)
    assert done.windows_resumed >= 3
    assert done.windows_total == told[-1][1]
    assert soundfile.info(tmp_path / "out.flac").samplerate == 48_000
    with pytest.raises(BatchsrError, match="keepband"):
        restore_file(source, tmp_path / "b.wav", model=model, keepband=True)


def test_what_is_public_is_typed_and_described() -> None:
    assert (Path(batchsr.__file__).parent / "py.typed").exists()
    for name in batchsr.__all__:
        if callable(one := getattr(batchsr, name)):
            assert one.__doc__, name
