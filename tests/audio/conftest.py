"""Recordings, whole and broken, as the tests of sound want them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def inputs(shared: Path, recordings: Path) -> list[tuple[Path, dict[str, str]]]:
    """(path, manifest's row) of every shared recording."""
    with (shared / "audio" / "inputs_manifest.csv").open(encoding="utf-8") as file:
        return [(recordings / "inputs" / row["file"], row) for row in csv.DictReader(file)]


def true_frames(path: Path, row: dict[str, str]) -> int:
    """The length of a shared recording: the manifest's, or by the fact chunk for codecs of blocks."""
    if row["format"].split("/")[1] in ("MS_ADPCM", "IMA_ADPCM", "GSM610") and path.suffix == ".wav":
        whole = path.read_bytes()
        at = whole.find(b"fact")
        return int.from_bytes(whole[at + 8 : at + 12], "little") or int(row["frames"])
    return int(row["frames"])


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function that writes a small sound file and returns its path."""

    def write(
        name: str = "in.wav",
        signal: np.ndarray | None = None,
        rate_hz: int = 8000,
        subtype: str = "PCM_16",
        **options: str,
    ) -> Path:
        path = tmp_path / name
        if signal is None:
            signal = 0.1 * np.random.default_rng(1).standard_normal((rate_hz, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        options.setdefault("format", path.suffix[1:].upper().replace("OGA", "OGG") or "WAV")
        with path.open("wb") as file:
            soundfile.write(file, signal, rate_hz, subtype=subtype, **options)
        return path

    return write
