"""What was proven to compute rightly on this machine, remembered in the user's cache.

A proof holds for one text of our own, one MLX, device, driver, precision and setting of MLX; when one of them changes
it is made again. Without a cache that can be written everything works as well, and is proven at each start.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import math
import os
from pathlib import Path
from typing import Any, Final

import platformdirs

from batchsr.models import checksums
from batchsr.models.compute import device

_MOST: Final = 64
"""Sets of circumstances that are remembered; the oldest go."""
_DECIDES: Final = "MLX_"
"""Variables that begin like this decide how MLX computes."""
_DECIDE_NOTHING: Final = ("MLX_PTX_CACHE_DIR",)


def remembered(what: str, circumstances: str) -> float | None:
    """Return the figure that `remember` was given, or None."""
    figure = _read().get(circumstances, {}).get(what)
    return (
        figure if isinstance(figure, float) and 0 <= figure < math.inf else None
    )  # what else is there, we never wrote


def remember(what: str, circumstances: str, figure: float) -> None:
    """Keep a proof's figure for this and the next processes."""
    known = _read()
    mine = known.pop(circumstances, {})
    known[circumstances] = mine | {what: float(figure)}  # the newest last
    kept = dict(list(known.items())[-_MOST:])
    checksums.write_json(_path(), kept)


@functools.cache
def circumstances(kind: str, dtype: str) -> str:
    """Return what a proof depends on, in words and as a digest of what computes; `kind` is the device's."""
    described = device.describe(kind)
    variables = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(_DECIDES) and name not in _DECIDE_NOTHING
    ]
    mlx = f"MLX {importlib.metadata.version('mlx')}"
    return " | ".join([mlx, kind, described.name, described.driver, dtype, *variables, program_digest()])


@functools.cache
def program_digest() -> str:
    """Return a digest of all that computes: the texts of this room and of the networks."""
    models = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted([*models.glob("compute/*.py"), *models.glob("flashsr/*.py")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _read() -> dict[str, dict[str, Any]]:
    return {key: value for key, value in checksums.read_json(_path()).items() if isinstance(value, dict)}


def _path() -> Path:
    return platformdirs.user_cache_path("batchsr") / "proven.json"
