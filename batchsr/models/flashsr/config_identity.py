"""Which model a bundle says that it is: one that calls itself AudioSR, or any other model, is refused as such."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchsr.errors import BundleError
from batchsr.models.flashsr.config_wanted import folded
from batchsr.models.flashsr.json_files import name_shown, shown

_KINDS = frozenset(
    {"modeltype", "architecture", "architectures", "arch", "classname", "modelarchitecture", "modelclass"}
)
"""Keys whose value is a program's word for an architecture."""
_NAMES_ITSELF = _KINDS | frozenset(
    folded(name)
    for name in "model name model_name model_id network type id repo repo_id repository _name_or_path target class "
    "pipeline title".split()
)
_OURS = re.compile(
    r"sr(?![a-z])|flash[-_ ]?sr|super[-_ ]?res|upsampl|upscal|bandwidth|audio|speech|diffusion|latent|ldm|distil"
    r"|student|enhanc|restor|mlx|u[-_ ]?net|vae|bigvgan|one[-_ ]?step"
)
"""What a word for this architecture may hold."""
_OTHERS = re.compile(
    r"(?:audio|music)[-_ ]?(?:ldm|gen|lbm)|whisper|nu[-_ ]?wave|wav2vec|hubert|wavlm|encodec|ap[-_ ]?bwe"
    r"|voice[-_ ]?fixer|resemble|moss[-_ ]?former|frcrn|lava[-_ ]?sr|nova[-_ ]?sr|hi[-_ ]?fi[-_ ]?gan|mel[-_ ]?gan"
    r"|vocos|wavenet|kokoro"
    r"|stable[-_ ]?(?:diffusion|audio)|qwen|llama|mistral|gemma|flux|moshi|conformer|parakeet|tango|nvsr|wsrglow|sgmse"
    r"|demucs|deep[-_ ]?filter|fre[-_ ]?painter|bridge[-_ ]?sr|flow[-_ ]?high|ace[-_ ]?step|sidon|clear[-_ ]?voice"
    r"|(?<![a-z])(?:bark|vits|mimi|snac|dac|clap|aero|bert|gpt|t5|udm)(?![a-z])"
)
"""Names of other models that one could take for this one's, or put in its place."""


def refuse_others(values: Mapping[str, Any]) -> None:
    """Raise BundleError if a config calls its model by another's name; "distilled from AudioSR" is no such call."""
    for key in values:
        if is_audiosr(str(key)):
            raise audiosr_error(f"{name_shown(str(key))} is a section of it")
    said = list(_said(values))
    for path, text in said:
        if is_audiosr(text):
            raise audiosr_error(f"{path} = {shown(text)}")
    for path, text in said:
        small = text.lower()
        ours = "flashsr" in folded(text)
        another = _OTHERS.search(small) or (folded(path.rpartition(".")[2]) in _KINDS and not _OURS.search(small))
        if text.strip() and another and not ours:
            raise BundleError(
                f"config.json: {path} = {shown(text)}, so this is the bundle of another model",
                remedy="take a FlashSR bundle: --variant int4, int8 or tiny",
            )


def is_audiosr(text: str) -> bool:
    """Return whether a name means an AudioSR."""
    text = text.lower()
    return bool(re.search(r"audio[-_ ]?sr(?![a-z])", text)) and "flashsr" not in folded(text)


def audiosr_error(said_by: str) -> BundleError:
    """Return the refusal of an AudioSR, which has another vocoder and restores in many steps."""
    return BundleError(
        f"this is an AudioSR bundle ({said_by}): another model, which needs many steps (200) a window, not one",
        remedy="take a FlashSR bundle: --variant int4, int8 or tiny",
    )


def _said(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, text) of what names the model: at the top, or one level down in a section that is called so itself."""
    for key, value in values.items():
        if folded(str(key)) not in _NAMES_ITSELF:
            continue
        inner = value.items() if isinstance(value, Mapping) else ()
        for path, entry in [
            (str(key), value),
            *((f"{key}.{name}", v) for name, v in inner if folded(str(name)) in _NAMES_ITSELF),
        ]:
            for text in entry if isinstance(entry, list) else [entry]:
                if isinstance(text, str):
                    yield ".".join(name_shown(part) for part in path.split(".")), text[:200]
