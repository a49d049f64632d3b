"""What a restoration is asked to do: one frozen `Settings`, checked once, the same words everywhere.

The command line, a profile (configs/*.toml), a manifest (jobs/*.toml) and the queue's rows all carry these
names. `Settings.digest()` identifies them in the dedupe key, in scratch files and in sidecars.

`effective` lays the sources of values over each other: default profile, named profile, manifest, command
line. What it gives remembers where each value came from.

Longer than other modules: each setting stands with what it may be, and with the layers that fill it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import platformdirs

from batchsr.audio import formats
from batchsr.errors import ConfigError
from batchsr.settings import textfile, tomlfile

Lowpass = Literal["off", "auto"] | float
InputScale = Literal["off", "auto"] | float
Denoise = Literal["off", "auto"] | float
Declick = Literal["off"] | float
FORMATS: Final = tuple(formats.WRITTEN)
SUBTYPES: Final = tuple(dict.fromkeys(subtype for subtypes in formats.SUBTYPES.values() for subtype in subtypes))
COPIES: Final = formats.COPIES
STEMS: Final = ("drums", "bass", "other", "vocals")
"""What `stems` separates into, in the order of the networks' output."""
STEM_NETWORKS: Final = ("htdemucs", "htdemucs-fp16")
"""Networks of the hub that separate music; any other is a file."""
RECOGNISERS: Final = ("tiny", "tiny.en", "base", "base.en", "small", "small.en")
"""Speech recognisers of the hub, smallest first; any other is a folder."""
RATES_HZ: Final = (16_000, 24_000, 44_100, 48_000)
"""What an output may be sampled at; the model's is the last."""
MAX_OVERLAP_S = 2.5
DEFAULT_VARIANT: Final = "int4"
OUTPUT_SUFFIX: Final = "_upsampled"
"""What an output's stem ends with, where nothing else is asked for."""


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
    accept_truncated: bool = False
    """Restore what is there of a file that is cut short, instead of refusing it."""
    also: str = ""
    """Formats of copies for access beside the output, some of COPIES joined by commas."""
    input_scale: InputScale = "off"
    """Sample value that is full scale in float files: "off" (1), "auto" (found for whole numbers) or a number."""
    rate: int = 48_000
    """Sample rate of the output in Hz, one of RATES_HZ."""
    declick: Declick = "off"
    """Interpolate clicks: "off", or from how many times the usual prediction error on, 4 (many) to 10 (few)."""
    denoise: Denoise = "off"
    """Denoise speech: "off", "auto" (where it is noisy), or the most dB that anything is attenuated by, 6 to 100."""
    quality: bool = False
    """Put on record what listeners would say of the speech before and after, as a network guesses it."""
    review_below: Literal["off"] | float = "off"
    """Mark outputs of which they would say less than this, 1 to 5; asks for `quality` as well."""
    check_words: str = "off"
    """Put on record which words a recogniser no longer hears: "off", one of RECOGNISERS, or a folder's full path."""
    keep_text: bool = False
    """Put those words themselves on record, beside their times."""
    dehum: Literal["off", "auto"] = "off"
    """Subtract the lines of mains hum that stand out: "off" or "auto"."""
    stems: Literal["off", "mix", "files"] = "off"
    """Separate music and restore its stems apart: "mix" sums them again, "files" writes one output for each as well."""
    stems_network: str = STEM_NETWORKS[0]
    """What separates: one of STEM_NETWORKS, or the absolute path of an ONNX file."""
    umid: bool = False
    """Give a broadcast WAV a UMID of its own, made from the recording, the settings and the model."""

    def __post_init__(self) -> None:
        check = self._check
        self._check_stages()
        check(_is_int(self.timestep) and 0 <= self.timestep <= 999, "timestep", "a whole number from 0 to 999")
        check(_is_int(self.seed) and 0 <= self.seed < 2**63, "seed", "a whole number from 0 to 2**63 - 1")
        check(
            _is_number(self.overlap) and 0 <= self.overlap <= MAX_OVERLAP_S, "overlap", f"seconds, 0 to {MAX_OVERLAP_S}"
        )
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
        check(isinstance(self.accept_truncated, bool), "accept_truncated", "true or false")
        copies = self.also.split(",") if isinstance(self.also, str) and self.also else []
        check(
            isinstance(self.also, str) and len(set(copies)) == len(copies) and set(copies) <= set(COPIES),
            "also",
            "some of " + ", ".join(COPIES) + ", each once, joined by commas",
        )
        check(self.format not in copies, "also", f"another format than the output's, {self.format}")
        check(
            self.input_scale in ("off", "auto")
            or (_is_number(self.input_scale) and 1e-6 <= float(self.input_scale) <= 1e12),
            "input_scale",
            "off, auto or the sample value that is full scale, as 32768",
        )
        check(isinstance(self.quality, bool), "quality", "true or false")
        check(
            self.review_below == "off" or (_is_number(self.review_below) and 1 <= float(self.review_below) <= 5),
            "review_below",
            "off, or an opinion from 1 (bad) to 5 (excellent)",
        )
        check(
            self.check_words in ("off", *RECOGNISERS)
            or (isinstance(self.check_words, str) and os.path.isabs(self.check_words)),
            "check_words",
            f"off, {', '.join(RECOGNISERS)}, or the absolute path of a recogniser's folder",
        )
        check(isinstance(self.keep_text, bool), "keep_text", "true or false")
        check(isinstance(self.umid, bool), "umid", "true or false")
        check(self.format == "wav" or not self.umid, "umid", "false where the format is not wav, which alone holds one")
        check(_is_int(self.rate) and self.rate in RATES_HZ, "rate", "one of " + ", ".join(map(str, RATES_HZ)) + " Hz")
        for form in (self.format, *copies):
            if not formats.WRITTEN[form].takes_rate(self.rate):
                takes = [str(rate_hz) for rate_hz in RATES_HZ if formats.WRITTEN[form].takes_rate(rate_hz)]
                raise ConfigError(
                    f"format {form} cannot be at {self.rate} Hz",
                    remedy=f"choose a rate that {form} takes, {', '.join(takes)}; or another format",
                )

    def _check(self, ok: bool, key: str, want: str) -> None:
        if not ok:
            raise ConfigError(f"{key} = {getattr(self, key)!r} is out of range", remedy=f"{key} takes {want}")

    def _check_stages(self) -> None:
        """Check what the stages before the model are asked for."""
        self._check(
            self.declick == "off" or (_is_number(self.declick) and 4 <= float(self.declick) <= 10),
            "declick",
            "off, or a number from 4 (touches much) to 10 (touches little); 6 is a good first one",
        )
        self._check(
            self.denoise in ("off", "auto") or (_is_number(self.denoise) and 6 <= float(self.denoise) <= 100),
            "denoise",
            "off, auto, or the most dB that anything is attenuated by, 6 to 100 (no limit); auto takes 12",
        )
        self._check(self.dehum in ("off", "auto"), "dehum", "off or auto")
        self._check(self.stems in ("off", "mix", "files"), "stems", "off, mix or files")
        self._check(
            self.stems_network in STEM_NETWORKS
            or (isinstance(self.stems_network, str) and os.path.isabs(self.stems_network)),
            "stems_network",
            f"{', '.join(STEM_NETWORKS)}, or the absolute path of an ONNX file",
        )

    def channels_of(self, channels: int) -> int:
        """Return how many channels are restored of a recording with so many."""
        return 1 if self.channels == "mono" else channels

    def rows_of(self, channels: int) -> int:
        """Return how many rows of windows the model is given for a recording with so many channels: stems are rows
        too."""
        return self.channels_of(channels) * (1 if self.stems == "off" else len(STEMS))

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces; `from_json` gives it back.

        What came later than the first queues stands in it only where it is not the default, so that digests stay.
        """
        values = dataclasses.asdict(self)
        for key, default in _LATER.items():
            if values[key] == default:
                del values[key]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    @functools.lru_cache(maxsize=256)  # a batch has few, and many rows
    def from_json(cls, text: str) -> Settings:
        """Return settings as the queue keeps them. Raises ConfigError on a key that this version does not know."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ConfigError(
                "the settings are no table of names and values", remedy="forget the job, and enqueue its file again"
            )
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: dict[str, Any]) -> Settings:
        """Return settings from a mapping of names to values. Raises ConfigError naming an unknown key."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ConfigError(f"unknown key {key!r}", remedy="known keys: " + ", ".join(sorted(known)))
        return cls(**values)

    @property
    def asks_opinions(self) -> bool:
        """Whether opinions go on record."""
        return self.quality or self.review_below != "off"

    @property
    def files_beside(self) -> bool:
        """Whether more files than the output are made: copies, or stems."""
        return bool(self.also) or self.stems == "files"

    def digest(self) -> str:
        """Return the SHA-256 of the canonical JSON without what touches no sample, hexadecimal."""
        touching = dataclasses.replace(self, quality=False, review_below="off", check_words="off", keep_text=False)
        return hashlib.sha256(touching.to_json().encode()).hexdigest()


_LATER: Final[Mapping[str, object]] = MappingProxyType(
    {
        "accept_truncated": False,
        "also": "",
        "input_scale": "off",
        "rate": 48_000,
        "declick": "off",
        "dehum": "off",
        "denoise": "off",
        "quality": False,
        "review_below": "off",
        "check_words": "off",
        "keep_text": False,
        "stems": "off",
        "stems_network": STEM_NETWORKS[0],
        "umid": False,
    }
)
DEFAULT: Final = "default"
COMMAND_LINE: Final = "command line"
_SHIPPED: Final = (
    Path(__file__).parent.parent / "configs",  # in an installed copy
    Path(__file__).parent.parent.parent / "configs",  # in a checkout
)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place."""

    origin: str
    """Where they stand, as `config show` and error messages name it."""
    values: Mapping[str, Any]
    """Fields of Settings, and `variant`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Effective:
    """What holds after all layers."""

    settings: Settings
    variant: str | None
    """None leaves it to the worker."""
    origins: Mapping[str, str]
    """For each field of Settings, and `variant`: the origin of its value."""
    profile: str
    """Name or path of the profile."""
    profile_sha256: str
    """Hash of the profile's file as it was read."""


def effective(
    *, profile: str | None = None, options: Layer | None = None, given: Mapping[str, Any] | None = None
) -> Effective:
    """Lay the default profile, the profile, a manifest's options and what the command line gave over each other.

    `profile` None means the default alone. Raises ConfigError that names the origin, the key and the remedy.
    """
    name = profile or DEFAULT
    path = find(name)
    layers = [load(find(DEFAULT))]
    if path != find(DEFAULT):
        layers.append(load(path))
    if options is not None:
        layers.append(options)
    layers.append(Layer(COMMAND_LINE, dict(given or {})))

    values: dict[str, Any] = dataclasses.asdict(Settings())
    ranks = dict.fromkeys(values, -1)
    origins = dict.fromkeys((*values, "variant"), "built in")
    variant: str | None = None
    for rank, layer in enumerate(layers):
        for key, value in layer.values.items():
            origins[key] = layer.origin
            if key == "variant":
                variant = value
            else:
                values[key], ranks[key] = value, rank
        _settings(layer.origin, values)
    if values["subtype"] not in formats.SUBTYPES[values["format"]] and ranks["subtype"] < ranks["format"]:
        # Whoever asks for a format asks for what it takes: a subtype from further down was meant for another one.
        values["subtype"] = formats.WRITTEN[values["format"]].natural
        origins["subtype"] = origins["format"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Effective(_settings(COMMAND_LINE, values), variant, origins, name, digest)


def find(name: str) -> Path:
    """Return the file of a profile: a path as it is, a name in the user's folder, then among the shipped ones.

    Raises ConfigError when there is none.
    """
    if os.sep in name or name.endswith(".toml"):
        path = Path(textfile.expanded(name))
        if path.is_file():
            return path
        raise ConfigError(f"there is no profile {path}", remedy="profiles by name: " + ", ".join(names()))
    for folder in _folders():
        if (path := folder / f"{name}.toml").is_file():
            return path
    raise ConfigError(
        f"there is no profile {name!r}", remedy="known profiles: " + ", ".join(names()) + "; or give a path"
    )


def names() -> list[str]:
    """Return the profiles that can be named without a path."""
    return sorted({path.stem for folder in _folders() if folder.is_dir() for path in folder.glob("*.toml")})


def load(path: Path) -> Layer:
    """Read a profile strictly. Raises ConfigError naming the file, the key and the remedy."""
    return layer(path, tomlfile.read(path))


def layer(path: Path, values: Mapping[str, Any], *, prefix: str = "") -> Layer:
    """Return a layer of values read from a file, checked key by key. A variant that is a path is relative to
    the file."""
    known = {field.name for field in dataclasses.fields(Settings)} | {"variant"}
    checked = dict(values)
    for key, value in checked.items():
        tomlfile.check_known(path, key, known, prefix=prefix)
        if key in _taking_fractions() and _is_number(value):
            checked[key] = float(value)  # 1 and 1.0 mean the same, and must have the same hash
    if "variant" in checked:
        checked["variant"] = _variant(path, checked["variant"], prefix)
    _settings(str(path), {key: value for key, value in checked.items() if key != "variant"})
    return Layer(str(path), checked)


@functools.cache
def _taking_fractions() -> frozenset[str]:
    """Return the settings whose number may have a fraction."""
    types = typing.get_type_hints(Settings)
    return frozenset(name for name, type_ in types.items() if float in (type_, *typing.get_args(type_)))


def _settings(origin: str, values: Mapping[str, Any]) -> Settings:
    try:
        return Settings.from_mapping(dict(values))
    except ConfigError as e:
        message = e.message if origin == COMMAND_LINE else f"{origin}: {e.message}"
        raise ConfigError(message, remedy=e.remedy) from e


def _variant(path: Path, value: object, prefix: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"{path}: {prefix}variant = {value!r} is no name",
            remedy="variant takes a name of `batchsr models list`, like int4, or a bundle's folder",
        )
    return os.path.abspath(os.path.join(path.parent, textfile.expanded(value))) if os.sep in value else value


def _folders() -> tuple[Path, ...]:
    shipped = next((folder for folder in _SHIPPED if folder.is_dir()), _SHIPPED[0])
    return (platformdirs.user_config_path("batchsr"), shipped)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
