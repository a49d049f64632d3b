"""Which model a variant's name means, and how it is loaded.

A model that has no weights to fetch has a name of its own here; every other variant, and every folder, is a bundle of
FlashSR's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from batchsr.models.interface import WindowModel
from batchsr.models.resample import NAME, Resample

FLASHSR: Final = "flashsr"
WITHOUT_WEIGHTS: Final[dict[str, Callable[[], WindowModel]]] = {NAME: Resample}
"""Name of a model, which is that of its only variant -> what makes it."""
MODELS: Final = (FLASHSR, *WITHOUT_WEIGHTS)


def load(
    variant: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> WindowModel:
    """Load the model of a variant. Raises the ModelError family, and ConfigError on an unknown dtype or device."""
    if isinstance(variant, str) and variant in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[variant]()
    from batchsr.models.flashsr.model import FlashSR

    return FlashSR.from_pretrained(variant, dtype=dtype, device=device, say=say)
