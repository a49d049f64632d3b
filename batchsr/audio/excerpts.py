"""A stretch of a recording beside the same stretch of its restoration: to look at, and to listen to."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Final

import numpy as np
import scipy  # its parts load when they are first used: scipy.signal takes a second
import soundfile
from numpy.typing import NDArray

from batchsr.audio.reader import Source
from batchsr.audio.resample import resample
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block
from batchsr.display import shown
from batchsr.errors import UsageError

BINS: Final = 160
"""Rows of a spectrogram, from 0 Hz at the first to 24 kHz at the last."""
FLOOR_DB: Final = -100.0
CEILING_DB: Final = -10.0
_FFT: Final = 1024
_LOOKS: Final = 16
_LOOK_S: Final = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class Excerpt:
    """The same stretch before and after, float32 (n, C) at 48 kHz, equally long."""

    start_s: float
    source: Block
    restored: Block


def excerpt(source: Path, output: Path, seconds: float, start_s: float | None = None) -> Excerpt:
    """Cut the same stretch out of a recording and its restoration; without a start, where it is loud.

    Raises the InputError family for either file, UsageError for a start behind its end.
    """
    with Source.open(source, accept_truncated=True) as before, Source.open(output) as after:
        start_s = _start_s(after, output, seconds, start_s)
        blocks = []
        for file in (before, after):
            rate_hz = file.info.sample_rate
            raw = file.stretch(round(start_s * rate_hz), max(1, round(seconds * rate_hz)))
            blocks.append(resample(raw, rate_hz))
    count = min(map(len, blocks))
    one, other = (block[:count] for block in blocks)
    if one.shape[1] != other.shape[1]:  # mono of several channels
        one, other = (block.mean(axis=1, keepdims=True, dtype=np.float32) for block in (one, other))
    return Excerpt(start_s, one, other)


def cut(source: Path, target: Path, seconds: float, start_s: float | None = None) -> float:
    """Write a stretch of a recording, as it is, to a WAV file of floats; without a start, where it is loud.

    Returns where it begins, in seconds: so that it has its length, it may begin earlier. Raises the InputError family,
    and UsageError for a start behind the end.
    """
    with Source.open(source, accept_truncated=True) as file:
        rate_hz = file.info.sample_rate
        start_s = _start_s(file, source, seconds, start_s)
        block = file.stretch(round(start_s * rate_hz), max(1, round(seconds * rate_hz)))
    soundfile.write(target, block, rate_hz, subtype="FLOAT", format="WAV")
    return start_s


def _start_s(file: Source, path: Path, seconds: float, asked_s: float | None) -> float:
    """Return where the stretch begins. Raises UsageError for a place that the recording does not have."""
    length_s = file.info.frames / file.info.sample_rate
    if asked_s is None:
        asked_s = _loud_position(file, seconds)
    elif asked_s >= length_s:
        raise UsageError(
            f"{shown(path)} lasts {length_s:.1f} s, and ends before {asked_s:g} s", remedy="name an earlier place"
        )
    return min(max(0.0, asked_s), max(0.0, length_s - seconds))


def matched(excerpt: Excerpt) -> tuple[Block, Block, Block]:
    """Return the excerpt at one loudness, and the difference: three blocks (n, C) within +-1.

    What the restoration adds is quiet, so a plain A/B is won by the louder: both get the same level, by their power.
    """
    powers = [float(np.mean(np.square(block, dtype=np.float64))) for block in (excerpt.source, excerpt.restored)]
    gain = (powers[1] / powers[0]) ** 0.5 if powers[0] > 1e-12 and powers[1] > 1e-12 else 1.0
    source = excerpt.source * np.float32(min(max(gain, 0.25), 4.0))
    difference = excerpt.restored - excerpt.source
    peak = max(1.0, *(float(np.abs(block).max(initial=0.0)) for block in (source, excerpt.restored, difference)))
    scale = np.float32(0.99 / peak if peak > 1.0 else 1.0)
    return source * scale, excerpt.restored * scale, difference * scale


def opus(block: Block) -> bytes:
    """Return an Opus file of a block (n, C) at 48 kHz; more than two channels become their mean."""
    if block.shape[1] > 2:
        block = block.mean(axis=1, keepdims=True, dtype=np.float32)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", SAMPLE_RATE_HZ, block.shape[1], "OPUS", format="OGG") as writer:
        writer.write(block)
    return file.getvalue()


def spectrogram(block: Block, columns: int) -> NDArray[np.uint8]:
    """Return levels (BINS, columns) of the channels' mean, from FLOOR_DB (0) to CEILING_DB (255); row 0 is 0 Hz."""
    mono = block.mean(axis=1)
    hop = max(64, len(mono) // columns)
    padded = np.pad(mono, (0, max(0, _FFT - len(mono))))
    _, _, power = scipy.signal.spectrogram(
        padded, SAMPLE_RATE_HZ, "hann", _FFT, max(0, _FFT - hop), mode="magnitude", scaling="spectrum"
    )
    power = np.square(power[1:])
    edges = np.linspace(0, len(power), BINS + 1).astype(int)
    rows = np.maximum.reduceat(power, edges[:-1], axis=0)
    chosen = np.linspace(0, rows.shape[1] - 1, columns).astype(int)
    level_db = 10 * np.log10(rows[:, chosen] + 1e-12)
    share = (level_db - FLOOR_DB) / (CEILING_DB - FLOOR_DB)
    return (255 * np.clip(share, 0, 1)).astype(np.uint8)


def waveform(block: Block, columns: int) -> NDArray[np.int8]:
    """Return the lowest and highest sample (columns, 2) of each stretch, of the loudest channel; full scale is 127."""
    if not len(block):
        return np.zeros((columns, 2), np.int8)
    loudest = block[:, int(np.abs(block).max(axis=0).argmax())]
    edges = np.linspace(0, len(loudest), columns + 1).astype(int)[:-1]
    edges = np.minimum(edges, len(loudest) - 1)
    low, high = np.minimum.reduceat(loudest, edges), np.maximum.reduceat(loudest, edges)
    peaks: NDArray[np.int8] = (127 * np.clip(np.stack([low, high], axis=1), -1, 1)).astype(np.int8)
    return peaks


def _loud_position(source: Source, seconds: float) -> float:
    """Return where a stretch begins in whose middle it is loud, by some looks."""
    info = source.info
    length_s = info.frames / info.sample_rate
    if length_s <= seconds:
        return 0.0
    looks = np.linspace(seconds / 2, length_s - seconds / 2, _LOOKS)
    count = max(1, int(_LOOK_S * info.sample_rate))
    levels = [float(np.abs(source.stretch(int(at_s * info.sample_rate), count)).mean()) for at_s in looks]
    return float(looks[int(np.argmax(levels))] - seconds / 2)
