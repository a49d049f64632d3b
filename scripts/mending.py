"""Measure what `--declick` and `--dehum` do: `mending.py CLIP...`, a line a clip, by 20 clicks a second and hum.

The clicks are 2 to 19 samples long and 0.1 to 0.6 of full scale; hum lies 20 dB below and has lines at 1, 2, 3 and 5
times 50.03 Hz. SNR is against the clip as it was, in dB; CPU is seconds of one core for a second of audio, one pass.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from batchsr.audio.repair import declick, dehum

Samples = NDArray[np.float32]
SECONDS = 30
THRESHOLD = 6.0


def main() -> None:
    """Print the table."""
    for name in sys.argv[1:]:
        samples, rate_hz = soundfile.read(name, dtype="float32", always_2d=True)
        clip = np.ascontiguousarray(samples[: SECONDS * rate_hz, :1])
        print(f"{Path(name).stem}: {of_clicks(clip, rate_hz)}; {of_hum(clip, rate_hz)}", flush=True)


def of_clicks(clip: Samples, rate_hz: int) -> str:
    """What is said of clicks."""
    rng = np.random.default_rng(1)
    struck = clip.copy()
    for _ in range(20 * len(clip) // rate_hz):
        length, at = rng.integers(2, 20), rng.integers(200, len(clip) - 200)
        shape = np.hanning(length + 2)[1:-1] * rng.uniform(0.3, 1, length) * np.where(rng.random(length) < 0.2, -1, 1)
        struck[at : at + length, 0] += rng.uniform(0.1, 0.6) * rng.choice([-1, 1]) * shape
    np.clip(struck, -1, 1, out=struck)

    def mend(x: Samples) -> Samples:
        return np.concatenate(list(declick.declick([x], THRESHOLD, len(x))))

    mended, cpu_s = timed(lambda: mend(struck))
    found, clean = declick.find([struck], THRESHOLD, len(clip)), declick.find([clip], THRESHOLD, len(clip))
    return (
        f"clicks {snr_db(clip, struck):.1f} -> {snr_db(clip, mended):.1f} dB, touched {100 * found.touched_share:.2f} %"
        f"{' (steps back)' if found.steps_back else ''}, CPU {cpu_s * rate_hz / len(clip):.4f}; as it was, touched "
        f"{100 * clean.touched_share:.3f} %, {snr_db(clip, mend(clip)):.0f} dB"
    )


def of_hum(clip: Samples, rate_hz: int) -> str:
    """What is said of hum."""
    time_s = np.arange(len(clip)) / rate_hz
    lines = ((1, 1.0), (2, 0.5), (3, 0.6), (5, 0.2))
    hum = np.sum([size * np.cos(2 * np.pi * 50.03 * k * time_s + k) for k, size in lines], axis=0)
    hum *= 0.1 * np.sqrt(np.mean(np.square(clip)) / np.mean(np.square(hum)))
    humming = (clip + hum[:, None]).astype(np.float32)
    found = dehum.find([humming], rate_hz)
    mended, cpu_s = timed(lambda: np.concatenate(list(dehum.dehum([humming], found, rate_hz))))
    clean = dehum.find([clip], rate_hz)
    return (
        f"hum {snr_db(clip, humming):.1f} -> {snr_db(clip, mended):.1f} dB, lines {list(found.lines)}, CPU "
        f"{cpu_s * rate_hz / len(clip):.4f}; as it was, lines {[clean.base_hz, *clean.lines] if clean else 'none'}"
    )


def timed(work: Callable[[], Samples]) -> tuple[Samples, float]:
    """What it gives, and the seconds of CPU that a second call takes: the first may compile."""
    work()
    started = time.process_time()
    return work(), time.process_time() - started


def snr_db(wanted: Samples, heard: Samples) -> float:
    """Signal to noise in dB, at most 200."""
    noise = float(np.sum(np.square(wanted - heard, dtype=np.float64)))
    return float(10 * np.log10(np.sum(np.square(wanted, dtype=np.float64)) / max(noise, 1e-20)))


if __name__ == "__main__":
    main()
