"""Measure what `--denoise` does: `denoising.py CLIP...`, a line a clip, under pink noise at 5, 10, 15, 20 dB and none.

SI-SDR at 48 kHz against the clip without noise, in dB, at the limit of 12 dB, and what `auto` decides. With `--joints`
all clips are joined to one recording under noise at 10 dB, and its run in slots of 45 s (or `--joints=SECONDS`) is
compared with one over the whole, in dB below it: over all, and in the worst 0.1 s.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from batchsr.audio import files
from batchsr.audio.denoising import Denoising
from batchsr.audio.resample import resample
from batchsr.restoration import spool
from batchsr.restoration.recording import Recording
from batchsr.restoration.stages import denoise
from batchsr.settings.profile import Settings
from batchsr.speech import denoiser

Samples = NDArray[np.float32]
SECONDS = 20


def main() -> None:
    """Print the table."""
    names = [name for name in sys.argv[1:] if not name.startswith("--")]
    asked = [name for name in sys.argv[1:] if name.startswith("--joints")]
    if asked:
        clips = [soundfile.read(name, dtype="float32", always_2d=True) for name in names]
        slot_s = int(asked[0].partition("=")[2] or 45)
        joints(np.concatenate([resample(x[:, :1], rate_hz) for x, rate_hz in clips]), slot_s)
        return
    for name in names:
        samples, rate_hz = soundfile.read(name, dtype="float32", always_2d=True)
        clip = np.ascontiguousarray(samples[: SECONDS * rate_hz, :1])
        said = []
        for snr_db in (5, 10, 15, 20, None):
            mixed = clip if snr_db is None else clip + noise(clip, snr_db)
            wanted = resample(clip, rate_hz)
            noisy = resample(mixed, rate_hz)
            auto = decision(mixed, rate_hz, "auto")
            out, cpu_s = denoised(noisy, decision(mixed, rate_hz, 12.0))
            said.append(
                f"{snr_db or 'no noise'}: {si_sdr_db(wanted, noisy):.1f} -> {si_sdr_db(wanted, out):.1f}, auto "
                f"{'denoises' if auto.on else 'leaves'} (speech {auto.speech_share:.2f}, SNR {auto.snr_db})"
            )
        print(f"{Path(name).stem}: {'; '.join(said)}; CPU {cpu_s * 48_000 / len(noisy):.3f}", flush=True)


def joints(clip: Samples, slot_s: int) -> None:
    """Print how far slots of so many seconds are from a run over the whole."""
    noisy = clip + noise(clip, 10)
    found = decision(noisy, 48_000, 12.0)
    pages = -(-len(clip) // spool.PAGE)
    spool.SLOT_PAGES, spool._STORED = pages, pages + 1
    whole, _ = denoised(noisy, found)
    spool.SLOT_PAGES, spool._STORED = 2 * slot_s, 2 * slot_s + 1
    slots, _ = denoised(noisy, found)
    error, level = np.square(slots - whole)[:, 0], np.square(whole)[:, 0]
    parts = len(error) // 4_800
    worst = (error[: parts * 4_800].reshape(parts, -1).sum(1) / level[: parts * 4_800].reshape(parts, -1).sum(1)).max()
    print(
        f"{len(clip) / 48_000:.0f} s in {-(-len(clip) // (spool.SLOT_PAGES * spool.PAGE))} slots: "
        f"{10 * np.log10(error.sum() / level.sum()):.1f} dB over all, {10 * np.log10(worst):.1f} in the worst 0.1 s"
    )


def noise(clip: Samples, snr_db: float) -> Samples:
    """Pink noise below the louder half of the clip's samples, as long as it."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(len(clip)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(clip))
    active = np.sort(np.square(clip[:, 0]))[len(clip) // 2 :].mean()
    return (pink * np.sqrt(active / 10 ** (snr_db / 10) / np.mean(np.square(pink))))[:, None].astype(np.float32)


def decision(mixed: Samples, rate_hz: int, asked: object) -> Denoising:
    """What is decided for a recording."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.wav"
        soundfile.write(path, mixed, rate_hz, subtype="FLOAT")
        settings = Settings(denoise=asked, input_scale=1.0)
        found = denoise.decision(Recording(path, files.probe(path), settings).treatment())
    assert found is not None
    return found


def denoised(noisy: Samples, found: Denoising) -> tuple[Samples, float]:
    """The recording as the spool makes it, and the seconds of CPU."""
    if not found.on:
        return noisy, 0.0
    started = time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        spool.Spool(
            Path(folder) / "spool",
            key=bytes(32),
            channels=1,
            total_samples=len(noisy),
            denoising=found,
            make=denoiser.Denoiser,
            delay_samples=denoiser.DELAY_SAMPLES,
            alive=lambda: None,
            name="",
        ) as filled,
    ):
        return np.concatenate(list(filled.fill([noisy]))), time.process_time() - started


def si_sdr_db(wanted: Samples, heard: Samples) -> float:
    """Scale-invariant ratio of signal to distortion in dB, at most 120."""
    one, other = wanted[:, 0].astype(np.float64), heard[:, 0].astype(np.float64)
    target = one * (one @ other) / max(one @ one, 1e-20)
    return float(10 * np.log10((target @ target) / max(np.sum(np.square(other - target)), 1e-12 * (target @ target))))


if __name__ == "__main__":
    main()
