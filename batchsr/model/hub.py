"""Where bundles are: a folder, the package, the hub's cache, or the hub. Importable without MLX."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from batchsr.errors import ModelUnavailable

REPOSITORIES = {"int4": "aufklarer/FlashSR-MLX-4bit", "int8": "aufklarer/FlashSR-MLX-8bit"}
FILES = ("config.json", "model.safetensors")


@dataclasses.dataclass(frozen=True, slots=True)
class Location:
    """A bundle's folder and where it came from; `repository` and `revision` are None for a plain folder."""

    variant: str
    folder: Path
    repository: str | None = None
    revision: str | None = None


def resolve(variant: str | Path) -> Location:
    """The folder of a variant (int4, int8, tiny) or of a path."""
    folder = Path(variant)
    if folder.is_dir():
        return Location(str(variant), folder.resolve())
    raise ModelUnavailable(f"there is no model {str(variant)!r}")
