"""Full-band sound to train on: what to take of Debian's packages, and random crops of it.

    apt-get download PACKAGE...; dpkg -x PACKAGE.deb DATA/PACKAGE       for every package of KINDS

Never used: what the model is judged by (JUDGES), by whole files, and in speech by whole speakers.
"""

from __future__ import annotations

import dataclasses
import multiprocessing as mp
import queue as queues
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from scripts.training import degrade

SAMPLE_RATE_HZ = 48_000
KINDS = {
    "wesnoth-1.16-music": "music",
    "hedgewars-data": "music",  # its voices are speech
    "hydrogen-drumkits": "percussion",
    "sonic-pi-samples": "percussion",
    "klettres-data": "speech",
    "tuxpaint-stamps-default": "speech",
    **dict.fromkeys(
        (
            "0ad-data",
            "fretsonfire-songs-muldjord",
            "fretsonfire-songs-sectoid",
            "hyperrogue-music",
            "lincity-ng-data",
            "marsshooter-data",
            "megaglest-data",
            "naev-data",
            "nexuiz-music",
            "supertuxkart-data",
            "unknown-horizons",
            "warmux-data",
            "warzone2100-music",
            "widelands-data",
        ),
        "music",
    ),
}
SHARES = {"speech": 0.45, "music": 0.40, "percussion": 0.15}
"""How often a crop is of each kind: speech is scarce and judged apart."""
BAND_HZ = {"speech": 17_500, "music": 18_500, "percussion": 17_500}
"""A recording whose loud frames stay under this (75 dB below their peak) isn't full-band; voices are scarce."""
JUDGES = (
    "frantic.ogg", "the_dangerous_symphony.ogg", "traveling_minstrels.ogg", "frantic-old.ogg",
    "Music/hell.ogg",
    "loop_mika.flac", "loop_garzul.flac", "loop_tabla.flac", "misc_cineboom.flac",
    "klettres/de/", "voices/Default_uk/", "voices/Default_ru/",
    "ForzeeStereo/Tambourine", "ForzeeStereo/HiHatSemiopen", "ForzeeStereo/Crash",
)  # fmt: skip
"""Parts of paths that are for judging, or close kin of what is."""
HELD_OUT = (
    "music/silvan_sanctuary.ogg", "Music/oriental.ogg", "loop_amen_full.flac", "loop_mehackit2.flac",
    "klettres/it/", "voices/Russian_pl/", "drumkits/BJA_Pacific/",
)  # fmt: skip
"""Parts of paths that are left out as well, so that settings and checkpoints can be chosen by them."""
SPOILED = ("_desc_be.ogg",)
"""Ends of names: a voice with a whistle at 19.2 kHz throughout."""
EXCERPT_SAMPLES = 122_880
"""2.56 s: what is degraded and normalised at a time; the crop for training is cut out of it."""
FASTER, MOST_FASTER = 0.3, 1.2
"""Such a share of the excerpts is played faster, up to so much: other voices, and sound up to 24 kHz, which few
recordings have."""


def bandwidth_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    """Highest frequency that the loudest twentieth of the frames reaches, 75 dB below their peak; means of 1 kHz."""
    n_fft = 2048
    if len(samples) < n_fft:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[:: n_fft // 2]
    frames = frames[:: len(frames) // 400 + 1]
    power = np.abs(np.fft.rfft(frames * np.hanning(n_fft), axis=1)) ** 2
    loud = np.percentile(10 * np.log10(power + 1e-9), 95, axis=0)
    bins = 1000 * n_fft // rate_hz
    around = np.convolve(loud, np.ones(bins) / bins, "same")
    return float(np.flatnonzero(around > loud.max() - 75).max(initial=0) * rate_hz / n_fft)


def kind_of(path: Path) -> str:
    """music, percussion or speech."""
    text = path.as_posix()
    if "/voices/" in text or "/voice/" in text:
        return "speech"
    return next(kind for package, kind in KINDS.items() if f"{package}/" in text)


def is_judge(path: Path) -> bool:
    """Whether this file is kept for judging."""
    return any(part in path.as_posix() for part in JUDGES)


def is_used(path: Path) -> bool:
    """Whether this file may be trained on. Of tuxpaint's stamps it is the spoken descriptions, not the noises."""
    text = path.as_posix()
    spoken = "/tuxpaint" not in text or "_desc_" in path.name
    return spoken and not is_judge(path) and not text.endswith(SPOILED) and not any(part in text for part in HELD_OUT)


def voice_of(path: Path) -> str:
    """Clips that belong together: of one folder, or of one language of tuxpaint's, who is one person."""
    return path.stem.rpartition("_")[2] if "/tuxpaint" in path.as_posix() else path.parent.as_posix()


def reels(folder: Path) -> dict[str, list[NDArray[np.int16]]]:
    """Every usable recording below `folder` as 48 kHz int16, (n,), by kind.

    Stereo gives two (the model knows one channel at a time). Short clips of one voice or instrument are joined, with
    5 ms fades. int16 because what the model is judged by, and most archives, are.
    """
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in (".ogg", ".oga", ".wav", ".flac")]
    with mp.get_context("spawn").Pool() as pool:
        decoded = pool.map(_decode, [p for p in files if is_used(p)], chunksize=8)
    found: dict[str, list[NDArray[np.int16]]] = {kind: [] for kind in SHARES}
    short: dict[tuple[str, str], list[NDArray[np.int16]]] = {}
    for item in decoded:
        if item is None:
            continue
        path, channels = item
        for channel in channels:
            if len(channel) >= 2 * EXCERPT_SAMPLES:
                found[kind_of(path)].append(channel)
            else:
                short.setdefault((kind_of(path), voice_of(path)), []).append(channel)
    for (kind, _), clips in sorted(short.items()):
        joined = np.concatenate(clips)
        if len(joined) < EXCERPT_SAMPLES:
            joined = np.tile(joined, EXCERPT_SAMPLES // len(joined) + 1)
        found[kind].append(joined)
    return found


def cached_reels(folder: Path, cache: Path) -> dict[str, list[NDArray[np.int16]]]:
    """`reels(folder)`, kept in `cache` (100 MB for 17 minutes) for the next time; delete it when the folder changes."""
    if not cache.exists():
        found = reels(folder)
        np.savez(cache, **{f"{kind}_{i:05d}": reel for kind, items in found.items() for i, reel in enumerate(items)})
    stored = np.load(cache)
    return {kind: [stored[name] for name in sorted(stored.files) if name.startswith(f"{kind}_")] for kind in SHARES}


def _decode(path: Path) -> tuple[Path, list[NDArray[np.int16]]] | None:
    """The channels of a full-band file, or None. Runs in a pool."""
    try:
        samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
    except sf.LibsndfileError:
        return None
    if rate_hz < 44_100 or bandwidth_hz(samples.mean(axis=1), rate_hz) < BAND_HZ[kind_of(path)]:
        return None
    if samples.shape[1] == 2 and np.abs(samples[:, 0] - samples[:, 1]).max() < 1e-3:
        samples = samples[:, :1]
    channels = []
    for c in range(min(samples.shape[1], 2)):
        x = soxr.resample(samples[:, c], rate_hz, SAMPLE_RATE_HZ, quality="VHQ")
        fade = min(240, len(x) // 2)
        x[:fade] *= np.linspace(0, 1, fade)
        x[len(x) - fade :] *= np.linspace(1, 0, fade)
        channels.append(np.round(np.clip(x, -1, 1) * 32767).astype(np.int16))
    return path, channels


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """`low` and `high` (B, n) float32, normalised as the model does it to a window; `scale` (B, 1) undoes it."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    scale: NDArray[np.float32]


class Crops:
    """Random crops of reels, degraded at random: a function of (seed, index) alone."""

    def __init__(self, found: dict[str, list[NDArray[np.int16]]], crop_samples: int, batch: int, seed: int) -> None:
        self.found = {kind: items for kind, items in found.items() if items}
        self.crop_samples = crop_samples
        self.batch = batch
        self.seed = seed

    def __getitem__(self, index: int) -> Batch:
        rng = np.random.default_rng([self.seed, index])
        rows = [self._row(rng) for _ in range(self.batch)]
        low, high, scale = (np.stack(parts) for parts in zip(*rows, strict=True))
        return Batch(low, high, scale)

    def _row(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        kinds = list(self.found)
        shares = np.array([SHARES[kind] for kind in kinds])
        while True:
            items = self.found[str(rng.choice(kinds, p=shares / shares.sum()))]
            # Longer reels more often, but not in proportion: one long drone would drown a hundred voices.
            lengths = np.sqrt([len(item) for item in items])
            reel = items[int(rng.choice(len(items), p=lengths / lengths.sum()))]
            faster = float(rng.uniform(1, MOST_FASTER)) if rng.random() < FASTER else 1.0
            high = excerpt(reel, faster, rng)
            if np.abs(high).max() > 0.01:
                break
        low = degrade.apply(high, degrade.draw(rng), rng)
        mean = low.mean(dtype=np.float64)
        scale = np.abs(low - mean).max() + 1e-8
        first = int(rng.integers(0, EXCERPT_SAMPLES - self.crop_samples + 1))
        part = slice(first, first + self.crop_samples)
        norm = [((x[part] - mean) / scale * 0.5).astype(np.float32) for x in (low, high)]
        return norm[0], norm[1], np.array([2 * scale], np.float32)


def excerpt(reel: NDArray[np.int16], faster: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """EXCERPT_SAMPLES of a reel from a random place on, played `faster`; zeros where the reel ends before."""
    length = int(EXCERPT_SAMPLES * faster)
    start = int(rng.integers(0, max(1, len(reel) - length)))
    sound = reel[start : start + length].astype(np.float32) / 32768
    if faster > 1:
        sound = soxr.resample(sound, SAMPLE_RATE_HZ * faster, SAMPLE_RATE_HZ, quality="HQ")
    sound = sound[:EXCERPT_SAMPLES]
    return np.pad(sound, (0, EXCERPT_SAMPLES - len(sound)))


def _work(crops: Crops, first: int, step: int, out: mp.Queue[tuple[int, Batch]]) -> None:
    index = first
    while True:
        out.put((index, crops[index]))
        index += step


def stream(crops: Crops, first: int, processes: int) -> Iterator[Batch]:
    """Batches first, first + 1, ... in order, made ahead by `processes` processes; 0 makes them here."""
    if not processes:
        index = first
        while True:
            yield crops[index]
            index += 1
    # fork shares the reels without copying them; it must happen before MLX starts its threads.
    context = mp.get_context("fork")
    outs = [context.Queue(maxsize=4) for _ in range(processes)]
    for p, out in enumerate(outs):
        context.Process(target=_work, args=(crops, first + p, processes, out), daemon=True).start()

    def batches() -> Iterator[Batch]:
        index = first
        while True:
            try:
                got, batch = outs[(index - first) % processes].get(timeout=120)
            except queues.Empty as e:
                raise RuntimeError("a process that makes batches has died") from e
            assert got == index
            yield batch
            index += 1

    yield from batches()
