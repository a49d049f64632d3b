"""What a restoration is asked to do: one frozen `Settings`, checked once, the same words everywhere.

The command line, a profile (configs/*.toml), a manifest (jobs/*.toml) and the queue's rows all carry these
names. `Settings.digest()` identifies them in the dedupe key, in scratch files and in sidecars.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Literal

from batchsr.errors import ConfigError

Lowpass = Literal["off", "auto"] | float
FORMATS = ("wav", "flac", "aiff", "w64", "caf", "ogg")
SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "VORBIS")
MAX_OVERLAP_S = 2.5


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Options of a restoration. `variant` is not among them: a job may leave it open until it is claimed."""

    timestep: int = 999
    """Diffusion step, 0 to 999."""
    seed: int = 0
    """Seed of the noise, 0 to 2**63 - 1."""
    overlap: float = 0.5
    """Seconds that neighbouring windows share; 0 is plain concatenation."""
    lowpass: Lowpass = "off"
    """Conditioning low-pass: "off", "auto" (at the detected cutoff) or a frequency in Hz."""
    keep_band: bool = False
    """Below the cutoff, put the recording itself into the output."""
    format: str = "wav"
    """Container of the output, one of FORMATS."""
    subtype: str = "PCM_24"
    """Sample format of the output, one of SUBTYPES."""
    channels: Literal["all", "mono"] = "all"
    """Restore every channel, or their mean."""
    sidecar: bool = True
    """Write `<output>.json`."""

    def __post_init__(self) -> None:
        def check(ok: bool, key: str, want: str) -> None:
            if not ok:
                raise ConfigError(f"{key} = {getattr(self, key)!r} is out of range", remedy=f"{key} takes {want}")

        check(_is_int(self.timestep) and 0 <= self.timestep <= 999, "timestep", "a whole number from 0 to 999")
        check(_is_int(self.seed) and 0 <= self.seed < 2**63, "seed", "a whole number from 0 to 2**63 - 1")
        check(_is_number(self.overlap) and 0 <= self.overlap <= MAX_OVERLAP_S, "overlap", f"seconds, 0 to {MAX_OVERLAP_S}")
        check(
            self.lowpass in ("off", "auto") or (_is_number(self.lowpass) and 100 <= float(self.lowpass) <= 24_000),
            "lowpass",
            "off, auto or a frequency from 100 to 24000 Hz",
        )
        check(isinstance(self.keep_band, bool), "keep_band", "true or false")
        check(self.format in FORMATS, "format", "one of " + ", ".join(FORMATS))
        check(self.subtype in SUBTYPES, "subtype", "one of " + ", ".join(SUBTYPES))
        check(self.channels in ("all", "mono"), "channels", "all or mono")
        check(isinstance(self.sidecar, bool), "sidecar", "true or false")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; `from_json` gives it back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Settings of a queue's row. Raises ConfigError on a key that this version does not know."""
        return cls.from_mapping(json.loads(text))

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Settings:
        """Settings from a mapping of names to values. Raises ConfigError naming an unknown key."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown key {key!r}", remedy="known keys: " + ", ".join(sorted(known)))
        return cls(**values)

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
