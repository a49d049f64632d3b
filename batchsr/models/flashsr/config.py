"""config.json of a bundle: typed, frozen, strict on what changes the sound. Works without MLX.

A published bundle names `vae`, `ldm`, `mel`, `audio`, `format`, `quantization` and `quantized_shapes`, but neither
the UNet's multipliers nor the vocoder's sizes. A bundle of another size names those too, in `ldm` and in a section
`vocoder`, under the names of the authors' code. Whatever is absent has the published value.

A wrong type (config_reading.py), a value that this architecture cannot have or that does not go with the others
(config_rules.py), a key of another name that says of the model what is not so (config_claims.py), and the name of
another model (config_identity.py) are each a BundleError naming the key. Keys that have no meaning here are kept in
`unknown_keys`, but for those of INFORMATIONAL.

Source: bundle format of aufklarer/FlashSR-MLX-4bit; sizes of jakeoneijk/FlashSR_Inference, commit 2292814.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from batchsr.errors import BundleError
from batchsr.models.flashsr import config_claims, config_identity, config_rules
from batchsr.models.flashsr import config_reading as reading
from batchsr.models.flashsr.config_sizes import (
    AudioConfig,
    MelConfig,
    ModelSizes,
    QuantisationConfig,
    UnetConfig,
    VaeConfig,
    VocoderConfig,
)
from batchsr.models.flashsr.json_files import name_shown, repeated, shown

INFORMATIONAL = (
    "name",
    "description",
    "license",
    "source",
    "model_type",
    "base_model",
    "version",
    "created",
    "training",
)
"""Top-level keys that a bundle may carry for people; of their values only a model's name is looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig(ModelSizes):
    """Everything that config.json says, checked: its values fit together and into this architecture."""

    def __post_init__(self) -> None:
        config_rules.check(self)

    @classmethod
    def from_mapping(cls, values: object) -> ModelConfig:
        """Read what json.loads gave for config.json. Raises BundleError naming the key at fault."""
        if not isinstance(values, Mapping):
            raise BundleError("config.json is not a JSON object", remedy="write the bundle again, or fetch it again")
        config_identity.refuse_others(values)
        for name in repeated(values):
            if name in _READERS or name in _ALIASES or name == "format":
                raise BundleError(f"config.json names {name!r} twice", remedy="leave one of them")
        notes = reading.Notes()
        sections: dict[str, Any] = {}
        for key, value in _with_one_vocoder(_with_quantization(values)).items():
            name = _ALIASES.get(key, key)
            if name in _READERS:
                sections[name] = _READERS[name](key, value, notes)
            elif key not in INFORMATIONAL and key != "format":
                notes.note(key, value=value)
        quantised = sections.get("quantization")
        bits = quantised.bits if quantised is not None else None
        if "format" in values:
            sections["format"] = reading.format_(values["format"], bits, notes)
        elif bits is not None:
            sections["format"] = f"int{bits}"
        config = cls(**sections)
        config_claims.check(notes.claims, config)
        return dataclasses.replace(config, unknown_keys=tuple(notes.unknown), oddities=tuple(notes.oddities))

    def to_mapping(self) -> dict[str, Any]:
        """Return what config.json holds for this: `from_mapping` gives it back."""
        values = dataclasses.asdict(self)
        del values["unknown_keys"], values["oddities"]
        if self.quantization is None:
            del values["quantization"], values["quantized_shapes"]
        return values


_ALIASES = {"voc": "vocoder"}
"""The section under the name that its tensors carry."""
_READERS: dict[str, reading.Reader] = {
    "vae": reading.section(VaeConfig),
    "ldm": reading.section(UnetConfig, {"transformer_depth": 1, "use_spatial_transformer": True, "dims": 2}),
    "vocoder": reading.section(VocoderConfig, {"resblock": "1", "activation": "snakebeta", "snake_logscale": True}),
    "mel": reading.section(MelConfig, readers={"fmax": reading.top_hz}),
    "audio": reading.section(AudioConfig),
    "quantization": reading.optional(
        reading.section(
            QuantisationConfig,
            readers={
                "mode": reading.mode,
                "bits": reading.bits,
                "group_size": reading.group_size,
                "rule": reading.words,
            },
        )
    ),
    "quantized_shapes": lambda key, value, notes: {} if value is None else reading.shapes(key, value, notes),
}


def _with_quantization(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config with `quantization` where it names only `quantization_config`, as mlx-lm's bundles
    name both."""
    same = values.get("quantization_config")
    if values.get("quantization") is not None or not isinstance(same, Mapping) or "bits" not in same:
        return values
    if values.get("format") in reading.FLOAT_FORMATS:
        return values
    return {**values, "quantization": {name: same[name] for name in ("bits", "group_size") if name in same}}


def _with_one_vocoder(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config with the vocoder under one name where it stands under both and says the same."""
    parts = [values.get(name) for name in ("vocoder", "voc")]
    if "voc" not in values or "vocoder" not in values:
        return values
    rest = {key: value for key, value in values.items() if key != "voc"}
    first, second = parts
    if not isinstance(first, Mapping) or not isinstance(second, Mapping):
        if second is None or second == first:
            return rest
        raise BundleError("config.json names 'vocoder' twice, the second time as 'voc'", remedy="leave one of them")
    for name, value in second.items():
        if name in first and first[name] != value:
            raise BundleError(
                f"config.json says two things of vocoder.{name_shown(name)}: {shown(first[name])} and, under 'voc', "
                f"{shown(value)}",
                remedy="leave one of them",
            )
    return {**rest, "vocoder": {**first, **second}}
