"""Speech is denoised, where it is decided that there is any and that it is noisy."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.denoising import FRAME_SAMPLES, Denoising, Listener, count, histogram, loudness_for_detector
from batchsr.audio.resample import at_rate, reblock
from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.display import clock
from batchsr.restoration import spool
from batchsr.restoration.spool import Spool
from batchsr.restoration.stages.entries import number, part, plain_sentence
from batchsr.restoration.stages.interface import Listening, Position
from batchsr.settings.profile import Settings
from batchsr.speech import denoiser, voice


@dataclasses.dataclass(frozen=True, slots=True)
class Denoise:
    """Denoises speech, in the spool that the recording keeps (batchsr.restoration.spool); this says so."""

    denoising: Denoising
    filled: Spool | None = None
    """Where the denoised recording is kept."""
    name: str = "denoise"
    version: int = 1
    position: Position = "resampled"
    context_samples: int = (spool.LEAD_PAGES + 1) * spool.PAGE

    @property
    def settings(self) -> Mapping[str, Any]:
        """The limit and the gain, and what computes."""
        of_network = dict(denoiser.identity()) if self.denoising.on else {}
        return {"limit_db": self.denoising.limit_db, "gain_db": self.denoising.gain_db, **of_network}

    @property
    def found(self) -> Mapping[str, Any]:
        """What was decided, and from what."""
        return self.denoising.to_dict()

    @property
    def measured(self) -> Mapping[str, Any]:
        """What was taken away, once the spool is full."""
        return {} if self.filled is None else self.filled.found()

    @property
    def done(self) -> str:
        """Say so where it is denoised."""
        return "denoised" if self.denoising.on else ""

    def channels(self, channels: int) -> int:
        """Return as many."""
        return channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream as it is: the recording gives it to the spool behind all stages of its position."""
        return blocks


def decision(treatment: Treatment) -> Denoising | None:
    """Return what was decided about denoising; None where it is not asked for."""
    denoising = treatment.decided.get("denoise")
    return denoising if isinstance(denoising, Denoising) else None


def decide(recording: Listening, treatment: Treatment) -> Denoising | None:
    """Decide about denoising, from two passes: how loud it is, and where somebody speaks."""
    asked = recording.settings.denoise
    if asked == "off":
        return None
    total = recording.info.samples_at()
    powers = histogram()
    digest = hashlib.blake2b(digest_size=32)
    of_channels, of_mean, sums = np.zeros(recording.channels), 0.0, np.zeros(recording.channels)
    for block in reblock(recording.at_48_khz(treatment), FRAME_SAMPLES):
        power = _powers(block)
        count(powers, float(power.max()))
        of_channels += power
        sums += block.sum(axis=0, dtype=np.float64)
        of_mean += float(_powers(block.mean(axis=1, keepdims=True))[0])
        digest.update(np.ascontiguousarray(block).data.cast("B"))
    recording.resampled_digest = digest.digest()
    gain = np.float32(loudness_for_detector(powers))
    frames: deque[float] = deque()
    offsets = sums / max(total, 1)
    # Channels of which one is inverted cancel each other: then the loudest is listened to, and not their mean.
    loudest = int(of_channels.argmax()) if of_mean < of_channels.mean() / (2 * recording.channels) else None

    def heard() -> Iterator[Block]:
        for block in reblock(recording.at_48_khz(treatment), FRAME_SAMPLES):
            frames.append(float(_powers(block).max()))
            x = block - offsets
            one = x.mean(axis=1, keepdims=True) if loudest is None else x[:, loudest : loudest + 1]
            yield gain * one.astype(np.float32)

    listener = Listener()
    for probability in voice.probabilities(at_rate(heard(), voice.RATE_HZ, -(-total // 3))):
        listener.add(probability, frames.popleft())
    return listener.decision(asked, total)


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Denoise | None:
    """Return the stage where denoising is asked for."""
    denoising = decision(treatment)
    return None if denoising is None else Denoise(denoising, filled)


def fact(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return by how much it was denoised and why, or why not."""
    return "Noise", _denoised(part(entry, "found"), number(part(entry, "settings"), "limit_db"))


def sentence(entry: Mapping[str, Any]) -> str:
    """Return by how much it was denoised, by what, and why; or why it was not."""
    if not part(entry, "found"):
        return plain_sentence(entry)
    settings = part(entry, "settings")
    by = f", by {settings['network']} (SHA-256 {settings.get('network_sha256')})" if "network" in settings else ""
    return f"Noise: it was {fact(entry)[1]}{by}."


def _denoised(found: Mapping[str, Any], limit_db: float | None) -> str:
    if found.get("denoised") is not True or limit_db is None:
        return f"not denoised: {found.get('why')}"
    removed = part(found, "removed_db")
    parts = [f"{db:.1f} dB of {kind}" for kind in ("speech", "pause") if (db := number(removed, kind)) is not None]
    kept_s = number(found, "kept_s")
    stays = f"; {clock(kept_s)} without speech stays" if kept_s else ""
    taken = f", took {' and '.join(parts)}" if parts else ""
    return f"denoised by {limit_db:.0f} dB at most ({found.get('why')}){taken}{stays}"


def _powers(block: Block) -> NDArray[np.float64]:
    """Return the mean square of each channel, (C,), without what stands still: an offset is no sound."""
    powers: NDArray[np.float64] = block.astype(np.float64).var(axis=0)
    return powers
