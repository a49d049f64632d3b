"""Full-band sound to train on: what to take of Debian's packages, and random crops of it.

    apt-get download PACKAGE...; dpkg -x PACKAGE.deb DATA/PACKAGE       for every package of KINDS

Never used: what the model is judged by (JUDGES), by whole files, and in speech by whole speakers.
"""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing as mp
import queue as queues
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from scipy import signal

from scripts.training import degrade

SAMPLE_RATE_HZ = 48_000
KINDS = {
    "wesnoth-1.16-music": "music",
    "hydrogen-data": "percussion",
    "hydrogen-drumkits": "percussion",
    "hydrogen-drumkits-effects": "percussion",
    "sonic-pi-samples": "percussion",
    "klettres-data": "speech",
    **dict.fromkeys(
        (
            "fretsonfire-songs-muldjord",
            "fretsonfire-songs-sectoid",
            "frozen-bubble-data",
            "hyperrogue-music",
            "lomiri-sounds",
            "marsshooter-data",
            "nexuiz-music",
            "singularity-music",
            "tuxmath-data",
            "tuxtype-data",
            "warzone2100-music",
        ),
        "music",
    ),
    **dict.fromkeys(
        (
            "0ad-data",
            "berusky2-data",
            "colobot-common-sounds",
            "endless-sky-data",
            "freedink-data",
            "hedgewars-data",
            "lincity-ng-data",
            "megaglest-data",
            "minetest-data",
            "minetest-mod-nether",
            "naev-data",
            "nexuiz-data",
            "openarena-data",
            "redeclipse-data",
            "starfighter-data",
            "supertuxkart-data",
            "trigger-rally-data",
            "tuxpaint-stamps-default",
            "unknown-horizons",
            "warmux-data",
            "wesnoth-1.16-data",
            "widelands-data",
        ),
        "effects",
    ),
}
"""What the sound of a package is, where its path doesn't say it (SPOKEN, PLAYED)."""
SPOKEN = ("_desc_", "/voices/", "/voice/", "/codriver/", "/announcer/", "/coms/", "/tutorial/")
PLAYED = ("/music/", "/Music/", "/songs/")
SHARES = {"speech": 0.42, "music": 0.35, "percussion": 0.09, "effects": 0.14}
"""How often a crop is of each kind: speech is scarce and judged apart."""
BAND_HZ = {"speech": 18_000, "music": 19_000, "percussion": 18_500, "effects": 18_500}
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
    "codriver/paula/", "berusky2/music/", "redeclipse/data/sounds/ambience/", "widelands/data/sound/",
    "starfighter/music/",
)  # fmt: skip
"""Parts of paths that are left out as well, so that settings and checkpoints can be chosen by them."""
SPOILED = ("_desc_be.ogg",)
"""Ends of names: a voice with a whistle at 19.2 kHz throughout."""
EXCERPT_SAMPLES = 122_880
"""2.56 s: what is degraded and normalised at a time; the crop for training is cut out of it."""
FASTER, MOST_FASTER = 0.4, 1.2
"""Such a share of the excerpts is played faster, up to so much: other voices, and sound up to 24 kHz, which few
recordings have."""
TILTED, MOST_TILT_DB = 0.4, 8.0
"""Such a share gets all above some frequency raised or lowered, by so much at most: other rooms and microphones."""
TOGETHER = 0.12
"""Such a share is two excerpts at once."""
LOOKED_AT_S = 40.0
ENDS = (".ogg", ".oga", ".wav", ".flac")


def bandwidth_hz(samples: NDArray[np.float32], rate_hz: int) -> float:
    """Highest frequency that the loudest twentieth of the frames reaches, 75 dB below their peak; means of 1 kHz.

    What is no louder than the rounding to 16 bit does not count: else every quiet or noisy file were full-band.
    """
    n_fft = 2048
    if len(samples) < n_fft:
        return 0.0
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[:: n_fft // 2]
    frames = frames[:: len(frames) // 400 + 1]
    power = np.abs(np.fft.rfft(frames * np.hanning(n_fft), axis=1)) ** 2
    loud = np.percentile(10 * np.log10(power + 1e-9), 95, axis=0)
    bins = 1000 * n_fft // rate_hz
    around = np.convolve(loud, np.ones(bins), "same") / np.convolve(np.ones_like(loud), np.ones(bins), "same")
    rounding = 10 * np.log10((1 / 32768) ** 2 / 12 * np.square(np.hanning(n_fft)).sum())
    above = np.flatnonzero(around > max(loud.max() - 75, rounding + 9))  # its loudest twentieth is 5 dB above its mean
    return float(above.max(initial=0) * rate_hz / n_fft)


def kind_of(path: Path) -> str:
    """music, percussion, effects or speech."""
    text = path.as_posix()
    if any(part in text for part in SPOKEN):
        return "speech"
    if any(part in text for part in PLAYED):
        return "music"
    return next(kind for package, kind in KINDS.items() if f"{package}/" in text)


def is_judge(path: Path) -> bool:
    """Whether this file is kept for judging."""
    return any(part in path.as_posix() for part in JUDGES)


def is_used(path: Path) -> bool:
    """Whether this file may be trained on."""
    text = path.as_posix()
    return not is_judge(path) and not text.endswith(SPOILED) and not any(part in text for part in HELD_OUT)


def voice_of(path: Path) -> str:
    """Clips that belong together: of one folder, or of one language of tuxpaint's, who is one person."""
    return path.stem.rpartition("_desc_")[2] if "_desc_" in path.name else path.parent.as_posix()


def files_in(folder: Path) -> list[Path]:
    """Sound files below a folder that may be trained on, in order."""
    return [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDS and is_used(p)]


def is_full_band(path: Path) -> bool:
    """Whether the first LOOKED_AT_S of a file reach as far up as BAND_HZ asks."""
    try:
        with sf.SoundFile(path) as file:
            rate_hz = file.samplerate
            samples = file.read(int(LOOKED_AT_S * rate_hz), dtype="float32", always_2d=True)
    except sf.LibsndfileError:
        return False
    return rate_hz >= 44_100 and bandwidth_hz(samples.mean(axis=1), rate_hz) >= BAND_HZ[kind_of(path)]


def reels(folder: Path) -> dict[str, list[NDArray[np.int16]]]:
    """Every usable recording below `folder` as 48 kHz int16, (n,), by kind.

    Stereo gives two (the model knows one channel at a time). Short clips of one voice or instrument are joined, with
    5 ms fades. int16 because what the model is judged by, and most archives, are.
    """
    with mp.get_context("spawn").Pool() as pool:
        decoded = pool.map(_decode, files_in(folder), chunksize=8)
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
    if not is_full_band(path):
        return None
    samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
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
        roots = {kind: np.sqrt([len(item) for item in items]) for kind, items in self.found.items()}
        self.lengths = {kind: values / values.sum() for kind, values in roots.items()}
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
            high = self._excerpt(str(rng.choice(kinds, p=shares / shares.sum())), rng)
            if rng.random() < TOGETHER:
                high = high + float(rng.uniform(0.1, 1)) * self._excerpt(str(rng.choice(kinds)), rng)
                high /= max(1.0, float(np.abs(high).max()))
            if np.abs(high).max() > 0.01:
                break
        how = degrade.draw(rng)
        high = degrade.recorded(high, how, rng)
        low = degrade.apply(high, how, rng)
        mean = low.mean(dtype=np.float64)
        scale = np.abs(low - mean).max() + 1e-8
        first = int(rng.integers(0, EXCERPT_SAMPLES - self.crop_samples + 1))
        part = slice(first, first + self.crop_samples)
        norm = [((x[part] - mean) / scale * 0.5).astype(np.float32) for x in (low, high)]
        return norm[0], norm[1], np.array([2 * scale], np.float32)

    def _excerpt(self, kind: str, rng: np.random.Generator) -> NDArray[np.float32]:
        # Longer reels more often, but not in proportion: one long drone would drown a hundred voices.
        lengths = self.lengths[kind]
        reel = self.found[kind][int(rng.choice(len(lengths), p=lengths))]
        faster = float(rng.uniform(1, MOST_FASTER)) if rng.random() < FASTER else 1.0
        sound = excerpt(reel, faster, rng)
        return tilted(sound, rng) if rng.random() < TILTED else sound


def excerpt(reel: NDArray[np.int16], faster: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """EXCERPT_SAMPLES of a reel from a random place on, played `faster`; zeros where the reel ends before."""
    length = int(EXCERPT_SAMPLES * faster)
    start = int(rng.integers(0, max(1, len(reel) - length)))
    sound = reel[start : start + length].astype(np.float32) / 32768
    if faster > 1:
        sound = soxr.resample(sound, SAMPLE_RATE_HZ * faster, SAMPLE_RATE_HZ, quality="HQ")
    sound = sound[:EXCERPT_SAMPLES]
    return np.pad(sound, (0, EXCERPT_SAMPLES - len(sound)))


def tilted(sound: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """`sound` with all above a random frequency raised or lowered by a shelf of the first order."""
    corner_hz, gain_db = 10 ** float(rng.uniform(3, 4)), float(rng.uniform(-MOST_TILT_DB, MOST_TILT_DB))
    high = signal.sosfilt(signal.butter(1, corner_hz, "high", fs=SAMPLE_RATE_HZ, output="sos"), sound)
    made = sound + (10 ** (gain_db / 20) - 1) * high
    return np.asarray(made / max(1.0, float(np.abs(made).max())), np.float32)


class Ring:
    """Batches that one process fills and another empties: memory that both see, and which of its slots is whose."""

    SLOTS = 3

    def __init__(self, context: mp.context.BaseContext, batch: int, crop_samples: int) -> None:
        self.shapes = [(batch, crop_samples), (batch, crop_samples), (batch, 1)]
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        memory = np.frombuffer(context.RawArray("f", self.SLOTS * sum(sizes)), np.float32).reshape(self.SLOTS, -1)
        parts = np.split(memory, np.cumsum(sizes)[:-1], axis=1)
        self.parts = [part.reshape(self.SLOTS, *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        self.free, self.full = context.Queue(), context.Queue()
        for slot in range(self.SLOTS):
            self.free.put(slot)

    def fill(self, crops: Crops, first: int, step: int) -> None:
        """Batches first, first + step, ... without end."""
        for index in itertools.count(first, step):
            batch, slot = crops[index], self.free.get()
            for part, value in zip(self.parts, (batch.low, batch.high, batch.scale), strict=True):
                part[slot] = value
            self.full.put((index, slot))

    def take(self) -> tuple[int, Batch]:
        """The next batch, with its index. Raises RuntimeError when none comes for two minutes."""
        try:
            index, slot = self.full.get(timeout=120)
        except queues.Empty as e:
            raise RuntimeError("a process that makes batches has died") from e
        batch = Batch(*(part[slot].copy() for part in self.parts))
        self.free.put(slot)
        return index, batch


def stream(crops: Crops, first: int, processes: int) -> Iterator[Batch]:
    """Batches first, first + 1, ... in order, made ahead by `processes` processes; 0 makes them here."""
    if not processes:
        for index in itertools.count(first):
            yield crops[index]
    # fork shares the reels without copying them; it must happen before JAX starts its threads.
    context = mp.get_context("fork")
    rings = [Ring(context, crops.batch, crops.crop_samples) for _ in range(processes)]
    for p, ring in enumerate(rings):
        context.Process(target=ring.fill, args=(crops, first + p, processes), daemon=True).start()
    for index in itertools.count(first):
        got, batch = rings[(index - first) % processes].take()
        assert got == index
        yield batch
