"""What the name that a person gives an output says about its format, and how copies for access are named beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchsr.audio import formats
from batchsr.errors import ConfigError
from batchsr.settings.profile import OUTPUT_SUFFIX


def with_format_of(output: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options `given` with the format that the output's extension stands for.

    A name without an extension says nothing. Raises ConfigError for an extension that no format has which is written
    here, and for one that contradicts a format that was asked for.
    """
    extension = output.suffix
    if not extension:
        return dict(given)
    meant = formats.written_for(extension)
    if meant is None:
        known = " ".join(e for form in formats.FORMATS if form.written is not None for e in form.extensions)
        message = f"{output.name}: nothing is written here that is named {extension}"
        raise ConfigError(message, remedy=f"name it with one of {known}")
    asked = given.get("format")
    if asked is not None and asked != meant.key:
        message = f"{output.name} is the name of a file in format {meant.key}, and format {asked} was asked for"
        raise ConfigError(message, remedy="leave out the one that is not meant")
    return {**given, "format": meant.key}


def stem_beside(output: Path, stem: str) -> Path:
    """Return the name of one stem's file: song.drums_upsampled.wav beside song_upsampled.wav."""
    whole = output.stem.endswith(OUTPUT_SUFFIX)
    name = output.stem.removesuffix(OUTPUT_SUFFIX) if whole else output.stem
    return output.with_name(f"{name}.{stem}{OUTPUT_SUFFIX if whole else ''}{output.suffix}")


def whole_of(stem_file: Path) -> Path | None:
    """Return the output whose stem has this name, if it is one's: the inverse of `stem_beside`, for any stem's name."""
    whole = stem_file.stem.endswith(OUTPUT_SUFFIX)
    name, dot, _ = stem_file.stem.removesuffix(OUTPUT_SUFFIX).rpartition(".")
    return stem_file.with_name(f"{name}{OUTPUT_SUFFIX if whole else ''}{stem_file.suffix}") if name and dot else None


def copy_beside(output: Path, form: str) -> Path:
    """Return the name of an output's copy for access in another format."""
    return output.with_suffix(f".{form}")
