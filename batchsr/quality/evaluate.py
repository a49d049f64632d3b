"""How good a restoration is: degrade full-band clips, restore them, compare with what they were.

The main figure is the log-spectral distance, LSD = mean over frames of sqrt(mean over bins of d^2), where
d = log10(|S|^2 + e) - log10(|S'|^2 + e), n_fft 2048, hop 512, Hann, samples in +-1. Its constant e decides how much
silence counts: e = 1e-8 and 1e-5 differ twofold on the same audio, so both are always given.

LSD knows levels and no phases: noise of the right level scores well (two independent noises of equal level are 0.79
apart). So look at spectrograms too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.filters import Crossover, keep_band
from batchsr.errors import InputEmpty, InputMissing
from batchsr.quality import measure
from batchsr.quality.measure import EDGE, SAMPLE_RATE_HZ, Signal

Restorer = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""(x (n,), rate in Hz) -> y (n * 48000 / rate,), at 48 kHz."""

RATES_HZ = (8_000, 16_000, 24_000)
N_FFT, HOP = 2048, 512
FLOORS = (1e-8, 1e-5)
"""The constants e of the LSD; the first is the one that counts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """One clip, restored once. Distances are in decades of power, each with e = 1e-8 and, behind it, with e = 1e-5."""

    lsd: float
    lsd_below: float
    """Below the cutoff: harm done to what was there."""
    lsd_above: float
    """Above it: what was to be restored."""
    lsd_1e5: float
    lsd_below_1e5: float
    lsd_above_1e5: float
    si_sdr_db: float
    """Scale-invariant signal-to-distortion ratio of the kept band."""
    loudness_lu: float
    """Loudness of the restoration less that of the original."""
    visqol: float | None = None
    """ViSQOL's opinion, 1 to 5; None where it was not asked for, or there is too little sound to have one of."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One clip at one rate by one method."""

    clip: str
    rate_hz: int
    method: str
    score: Score

    def to_dict(self, *, visqol: bool) -> dict[str, Any]:
        """Return it as JSON types; ViSQOL's opinion only where that was asked for."""
        found = dataclasses.asdict(self)
        if not visqol:
            del found["score"]["visqol"]
        return found


def spectrogram(x: Signal) -> NDArray[np.float64]:
    """Return the power (M, 1025) of frames wholly in `x`; at least one, of a shorter signal padded with zeros."""
    padded = measure.fit(np.asarray(x, np.float64), max(len(x), N_FFT))
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    return np.asarray(np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2)


def lsd(reference: NDArray[np.float64], restored: NDArray[np.float64], floor: float) -> float:
    """Return the log-spectral distance of two power spectrograms (M, F), or of the same columns of both."""
    distance = np.log10(reference + floor) - np.log10(restored + floor)
    return float(np.sqrt((distance**2).mean(axis=1)).mean())


def si_sdr_db(reference: Signal, restored: Signal) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB; -inf where nothing of the reference is left."""
    reference, restored = reference.astype(np.float64), restored.astype(np.float64)
    energy = float(reference @ reference)
    target = reference * (float(restored @ reference) / energy) if energy else 0 * reference
    noise = restored - target
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(np.float64(target @ target) / np.float64(noise @ noise)))


Opinion = Callable[[Signal, Signal], float | None]
"""(original (n,), restored (n,)), both at 48 kHz -> 1 to 5; as `batchsr.quality.visqol.mos`."""


def score(reference: Signal, restored: Signal, cutoff_hz: float, opinion: Opinion | None = None) -> Score:
    """Compare a restoration with its 48 kHz original, both (n,); the cutoff splits the band into below and above."""
    restored = measure.fit(restored, len(reference))
    a, b = spectrogram(reference), spectrogram(restored)
    edge = round(cutoff_hz * N_FFT / SAMPLE_RATE_HZ)
    parts = [slice(None), slice(None, edge), slice(edge, None)]
    d = [lsd(a[:, part], b[:, part], floor) for floor in FLOORS for part in parts]
    sdr = si_sdr_db(measure.kept(reference, cutoff_hz), measure.kept(restored, cutoff_hz))
    loudness = measure.loudness_lufs(restored) - measure.loudness_lufs(reference)
    heard = None if opinion is None else opinion(reference, restored)
    return Score(d[0], d[1], d[2], d[3], d[4], d[5], sdr, loudness, heard)


def replicate(x: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Spectral band replication, the baseline that knows no training: (n,) -> (n * 48000 / rate,).

    The upper half of the kept band is copied upwards, time and again, and falls as fast as the kept band does: for
    each frame a straight line through the logarithm of its power over the logarithm of frequency.
    """
    up = measure.sinc(x, rate_hz).astype(np.float64)
    hop = N_FFT // 4
    hann = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT))
    padded = np.pad(up, (N_FFT, N_FFT + (-len(up)) % hop))
    spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::hop] * hann, axis=1)
    # 4 % below the cutoff: the low-pass already falls there, and the line would take that for the sound's own slope.
    edge = int(0.96 * EDGE * rate_hz / SAMPLE_RATE_HZ * N_FFT / 2)
    known, above = np.arange(edge // 4, edge), np.arange(edge, spectrum.shape[1])
    octaves = np.log2(known)
    weight = 1 / known / (1 / known).sum()  # every octave counts the same
    centred = octaves - weight @ octaves
    level = np.log10(np.abs(spectrum[:, known]) ** 2 + FLOORS[0])
    slope = np.minimum((level * weight) @ centred / (weight @ centred**2), 0.0)
    source = edge // 2 + (above - edge) % (edge - edge // 2)
    spectrum[:, above] = spectrum[:, source] * 10 ** (slope[:, None] * np.log2(above / source) / 2)
    frames = np.fft.irfft(spectrum, N_FFT, axis=1) * hann
    out = np.zeros(len(padded))
    for i, frame in enumerate(frames):
        out[i * hop : i * hop + N_FFT] += frame / 2  # the squares of four Hann roots sum up to two
    return np.asarray(out[N_FFT : N_FFT + len(up)], np.float32)


BASELINES: Mapping[str, Restorer] = {"sinc": measure.sinc, "replication": replicate}


def both_ways(name: str, restore: Restorer) -> dict[str, Restorer]:
    """Return the methods `NAME` and `NAME+keep`: a restoration as it is, and with the recording's own band put back.

    The cutoff is given to the crossover, not detected. Each sound is restored once for the two.
    """
    last: list[tuple[NDArray[np.float32], int, NDArray[np.float32]]] = []

    def once(x: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        if not last or last[0][0] is not x or last[0][1] != rate_hz:
            last[:] = [(x, rate_hz, restore(x, rate_hz))]
        return last[0][2]

    def kept(x: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
        crossover = Crossover.below(EDGE * rate_hz / 2, rate_hz, exact=True)
        recording, restored = measure.sinc(x, rate_hz), once(x, rate_hz)
        return np.concatenate(list(keep_band([recording[:, None]], [restored[:, None]], crossover)))[:, 0]

    return {name: once, f"{name}+keep": kept}


def find_clips(folder: Path) -> list[Path]:
    """Return the WAV and FLAC files of a folder, by name. Raises InputMissing when there is none."""
    clips = sorted(path for path in folder.glob("*") if path.suffix.lower() in {".wav", ".flac"})
    if not clips:
        raise InputMissing(f"{folder}: no WAV or FLAC clip in it")
    return clips


def compare(
    path: Path,
    methods: Mapping[str, Restorer],
    rate_hz: int,
    seconds: float | None = None,
    opinion: Opinion | None = None,
) -> Iterator[tuple[Result, NDArray[np.float32]]]:
    """Yield one clip at one rate by every method, with what each made of it; `seconds` of its middle, or all of it.

    Raises InputEmpty for less than one frame, InputNotFinite, InputFormat.
    """
    reference = measure.middle(measure.read_clip(path), seconds)
    if len(reference) < N_FFT:
        raise InputEmpty(
            f"{path}: {len(reference):,} samples are too few to measure",
            remedy=f"give clips of {N_FFT:,} samples at least, and more --seconds if they were asked for",
        )
    x = measure.degrade(reference, rate_hz)
    for name, restore in methods.items():
        restored = restore(x, rate_hz)
        yield Result(path.stem, rate_hz, name, score(reference, restored, EDGE * rate_hz / 2, opinion)), restored


def evaluate(
    clips: Iterable[Path],
    methods: Mapping[str, Restorer],
    rates_hz: Sequence[int] = RATES_HZ,
    seconds: float | None = None,
) -> Iterator[Result]:
    """Yield every clip at every rate by every method, one result at a time, in this order."""
    for path in clips:
        for rate_hz in rates_hz:
            for result, _ in compare(path, methods, rate_hz, seconds):
                yield result


def group_of(clip: str) -> str:
    """Return the kind of audio that a clip's name begins with, up to the first underscore."""
    return clip.split("_", 1)[0]


def mean(results: Iterable[Result]) -> Score:
    """Return the mean of every figure. Infinite signal-to-distortion ratios (an untouched band) count as 100 dB.

    Of ViSQOL's opinions it is the mean of those that there are.
    """
    scores = [result.score for result in results]
    rows = [dataclasses.astuple(dataclasses.replace(one, visqol=0.0)) for one in scores]
    v = np.nan_to_num(np.array(rows), posinf=100.0, neginf=-100.0).mean(axis=0).tolist()
    heard = [one.visqol for one in scores if one.visqol is not None]
    return Score(v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], sum(heard) / len(heard) if heard else None)


HEAD: Final = ("method", "rate", "clips", "LSD", "below", "above", "1e-5: LSD", "below", "above", "SI-SDR dB", "LU")
VISQOL: Final = "ViSQOL"
"""Head of the column behind them, where it was asked for."""
NOTE: Final = (
    "LSD with e = 1e-8, then with e = 1e-5; `below` and `above` the cutoff, 0.9 of the rate's Nyquist frequency."
)


def head(*, visqol: bool) -> tuple[str, ...]:
    """Return the heads of the columns of `rows`."""
    return (*HEAD, VISQOL) if visqol else HEAD


def rows(results: Sequence[Result], *, visqol: bool = False) -> list[list[str]]:
    """Return the results as rows of texts under `head`: one for each method, rate and group of clips, `all` first."""
    groups = sorted({group_of(result.clip) for result in results})
    found = []
    for method in dict.fromkeys(result.method for result in results):
        for rate_hz in sorted({result.rate_hz for result in results}):
            for group in ["all", *groups] if len(groups) > 1 else ["all"]:
                chosen = [
                    result
                    for result in results
                    if (result.method, result.rate_hz) == (method, rate_hz) and group in ("all", group_of(result.clip))
                ]
                if chosen:
                    s = mean(chosen)
                    figures = [f"{v:.2f}" for v in dataclasses.astuple(s)[:6]]
                    figures += [f"{s.si_sdr_db:.1f}", f"{s.loudness_lu:+.2f}"]
                    figures += ["-" if s.visqol is None else f"{s.visqol:.2f}"] * visqol
                    found.append([method, f"{rate_hz}", f"{group} ({len(chosen)})", *figures])
    return found


def tabulate(results: Sequence[Result], *, visqol: bool = False) -> str:
    """Return `rows` as a Markdown table."""
    heads = head(visqol=visqol)
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(results, visqol=visqol)]
    return "\n".join([*lines, "", NOTE])
