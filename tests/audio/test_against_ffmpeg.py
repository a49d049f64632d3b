"""Our reading against ffmpeg's: the same length to the sample, the same samples to -80 dB, or the reason why not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.decoders import ffmpeg
from batchsr.audio.files import Source, probe
from batchsr.errors import InputEmpty

PROGRAM = ffmpeg.program()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="there is no ffmpeg")
ALIKE_DB = -80.0
# Where both may differ, and why: (samples of length, dB of the difference, the reason).
REASONS: dict[str, tuple[float, float, str]] = {
    "MPEG_LAYER_III": (2400, 0, "without an encoder's word ffmpeg leaves its delay in, or the decoder's"),
    "VORBIS": (2048, -75, "ffmpeg of before version 6 plays a short stream's last block to its end"),
    "OPUS": (0, -12, "below 48 kHz libopus decodes to that rate with filters of its own, where ffmpeg resamples"),
    "IMA_ADPCM": (2048, -40, "ffmpeg reads the last block to its end, and rounds the predictor otherwise"),
    "MS_ADPCM": (2048, -40, "as for IMA"),
}


def by_ffmpeg(path: Path, rate_hz: int, channels: int) -> np.ndarray:
    command = [str(PROGRAM), "-v", "error", "-i", path, "-map", "0:a:0", "-ar", str(rate_hz), "-f", "f32le", "-"]
    done = subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL)
    return np.frombuffer(done.stdout, "<f4").reshape(-1, channels)


def compare(path: Path) -> None:
    with Source.open(path) as source:
        info = source.info
        ours = np.concatenate(list(source.blocks()))
    theirs = by_ffmpeg(path, info.sample_rate, info.channels)
    samples, most_db, _ = REASONS.get(info.subtype, (0, ALIKE_DB, ""))
    assert abs(len(ours) - len(theirs)) <= samples, (path.name, len(ours), len(theirs))
    both = min(len(ours), len(theirs))
    if most_db < 0 and both:
        difference = float(np.sqrt(np.mean((ours[:both] - theirs[:both]) ** 2, dtype=np.float64)))
        level = max(float(np.sqrt(np.mean(theirs[:both] ** 2, dtype=np.float64))), 1e-4)
        assert 20 * np.log10(max(difference, 1e-12) / level) <= most_db, path.name


def test_every_good_recording_is_read_as_ffmpeg_reads_it(recordings: Path) -> None:
    compared = 0
    for path in sorted((recordings / "inputs").rglob("*")):
        if not path.is_file() or re.search(r"\.(rf64\.wav|w64)$", path.name):
            continue  # ffmpeg of before version 6 takes RF64's padding for sound
        try:
            probe(path)
        except InputEmpty:
            continue
        compare(path)
        compared += 1
    assert compared > 50


@pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        *(("WAV", s) for s in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
        *(("AIFF", s) for s in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW")),
        *(("AU", s) for s in ("PCM_16", "FLOAT", "ULAW")),
        *(("CAF", s) for s in ("PCM_16", "PCM_24", "ALAC_16", "ALAC_24")),
        *(("FLAC", s) for s in ("PCM_16", "PCM_24")),
        *(("OGG", s) for s in ("VORBIS", "OPUS")),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_what_libsndfile_writes_is_read_as_ffmpeg_reads_it(
    tmp_path: Path, form: str, subtype: str, rate_hz: int, channels: int
) -> None:
    if subtype == "OPUS" and rate_hz == 44_100:
        pytest.skip("Opus has no such rate")
    x = 0.2 * np.random.default_rng(0).standard_normal((12_345, channels))
    path = tmp_path / f"x.{form.lower()}"
    soundfile.write(path, np.clip(x, -0.9, 0.9), rate_hz, subtype, format=form)
    compare(path)
