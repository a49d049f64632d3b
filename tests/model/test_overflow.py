"""A window that overflows in half precision is computed again in float32: the run goes on, the bytes are its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import soundfile
from rig import serving

import batchsr
from batchsr import FlashSR
from batchsr.errors import BundleError, NonFiniteOutput
from batchsr.restoration.restore import restore
from batchsr.restoration.task import Restored, Task
from batchsr.settings.profile import Settings

from .test_bundle import save, tensors

GAIN = 5e3
"""Makes the encoder's first convolution so large that empty bands, at a log-mel of -11.5, go beyond float16."""


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def loud(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose float16 overflows where a window has empty bands, as a tone has and noise has not."""
    folder = tmp_path_factory.mktemp("loud")
    shutil.copytree(tiny_folder, folder, dirs_exist_ok=True)
    values = tensors(folder)
    values["vae.encoder.conv_in.weight"] *= GAIN
    values["vae.encoder.conv_in.bias"] *= 0
    return save(folder, values)


@pytest.fixture(scope="module")
def half(loud: Path) -> FlashSR:
    return FlashSR.from_pretrained(loud, device="cpu", dtype="float16")


def sounds(samples: int, kinds: str) -> np.ndarray:
    """A row for each letter: t is a tone, n is noise."""
    rng = np.random.default_rng(3)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / 48_000)
    return np.stack([tone if kind == "t" else rng.uniform(-0.3, 0.3, samples) for kind in kinds]).astype(np.float32)


def test_a_window_that_overflows_has_the_bytes_of_float32(half: FlashSR, loud: Path) -> None:
    exact = FlashSR.from_pretrained(loud, device="cpu", dtype="float32")
    (tone,) = sounds(half.frame_samples, "t")
    assert half.upsample_window(tone).tobytes() == exact.upsample_window(tone).tobytes()
    assert half.computed_again == (0,)
    assert exact.computed_again == ()


@pytest.fixture(scope="module")
def alone(half: FlashSR) -> Callable[[np.ndarray], bytes]:
    """The bytes of a window that is computed with no other, each computed once."""
    noise, found = half.noise(0, 0)[None], dict[bytes, bytes]()

    def computed(row: np.ndarray) -> bytes:
        if (key := row.tobytes()) not in found:
            found[key] = half.upsample_window(row, noise).tobytes()
        return found[key]

    return computed


@pytest.mark.parametrize("kinds", ["nt", "tn", "ntnnt", "nntttnnn"])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_its_bytes_and_its_neighbours_do_not_depend_on_the_company(
    half: FlashSR, alone: Callable[[np.ndarray], bytes], kinds: str, batch: int
) -> None:
    rows = sounds(half.frame_samples, kinds)
    noise = np.concatenate([half.noise(0, 0)[None]] * len(rows))
    before, half.batch_windows = half.batch_windows, batch
    try:
        together = half.upsample_window(rows, noise)
        assert half.computed_again == tuple(number for number, kind in enumerate(kinds) if kind == "t")
        assert [alone(row) for row in rows] == [result.tobytes() for result in together]
    finally:
        half.batch_windows = before


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
def test_what_overflows_in_float32_too_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path, dirs_exist_ok=True)
    values = tensors(tmp_path)
    values["voc.conv_post.bias"] = np.full_like(values["voc.conv_post.bias"], 3e38)
    values["vae.encoder.conv_in.weight"] *= 1e38
    save(tmp_path, values)
    model = FlashSR.from_pretrained(tmp_path, device="cpu", dtype="float16")
    with pytest.raises(NonFiniteOutput, match="float32 too"):
        model.upsample_window(sounds(model.frame_samples, "t")[0])


def test_a_bundle_that_was_exchanged_meanwhile_is_not_mixed_in(loud: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(loud, tmp_path / "bundle"))
    model = FlashSR.from_pretrained(folder, device="cpu", dtype="float16")
    values = tensors(folder)
    values["vae.encoder.conv_in.weight"] *= 2
    save(folder, values)
    with pytest.raises(BundleError, match="has changed"):
        model.upsample_window(sounds(model.frame_samples, "t")[0])


def task_for(source: Path, output: Path) -> Task:
    identity = {"variant": "loud", "revision": "r", "weights_sha256": "0" * 64, "dtype": "float16", "device": "cpu"}
    return Task(
        source=source,
        output=output,
        scratch=output.with_suffix(".scratch"),
        settings=Settings(overlap=0.02),
        tag="1-1",
        provenance=identity,
    )


def run(task: Task, model: FlashSR, stop_at: int | None = None) -> Restored:
    def on_windows(done: int, total: int) -> None:
        if stop_at is not None and done >= stop_at:
            raise Stop

    with serving(model) as batcher:
        return restore(task, batcher, on_windows=on_windows, before_publish=lambda _: None)


def test_a_file_tells_how_many_windows_it_took_also_after_it_was_resumed(half: FlashSR, tmp_path: Path) -> None:
    samples = sounds(2 * half.frame_samples, "tnt").reshape(-1)
    soundfile.write(tmp_path / "a.wav", samples, 48_000, subtype="PCM_16")
    whole = run(task_for(tmp_path / "a.wav", tmp_path / "whole.wav"), half)
    record = json.loads((tmp_path / "whole.wav.json").read_text())
    count = record["windows"]["computed_again_in_float32"]
    assert 3 <= count < record["windows"]["total"]
    schema = Path(batchsr.__file__).parent / "restoration" / "sidecar.schema.json"
    jsonschema.validate(record, json.loads(schema.read_text()))
    for stop_at in (1, 3, record["windows"]["total"] - 1):
        task = task_for(tmp_path / "a.wav", tmp_path / f"{stop_at}.wav")
        with pytest.raises(Stop):
            run(task, half, stop_at)
        again = run(task, half)
        assert again.windows_resumed >= stop_at
        assert again.output_sha256 == whole.output_sha256
        assert again.windows_computed_again == count
