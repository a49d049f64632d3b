"""The models there are: the one table from which names, folders, the choices of `--model` and its help come.

Every variant's name and every bundle's folder means one of them. What no other model says is its own is FlashSR's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batchsr.models import resample
from batchsr.models.family import Family, WithoutWeights
from batchsr.models.flashsr.about import ABOUT as FLASHSR_ABOUT
from batchsr.models.identity import About

if TYPE_CHECKING:
    from batchsr.models.interface import WindowModel


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One model of the table."""

    about: About
    family: Callable[[], Family]
    """Made when it is asked for: `--help` needs no hub."""


def _flashsr() -> Family:
    from batchsr.models.flashsr.family import FlashSRFamily

    return FlashSRFamily()


def _resample() -> Family:
    return WithoutWeights(resample.ABOUT, resample.Resample)


FLASHSR: Final = FLASHSR_ABOUT.name
MODELS: Final[dict[str, Entry]] = {
    entry.about.name: entry for entry in (Entry(FLASHSR_ABOUT, _flashsr), Entry(resample.ABOUT, _resample))
}
"""Name -> model, in the order of the help."""


def load(
    variant: str | Path,
    *,
    dtype: str | None = None,
    device: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> WindowModel:
    """Load the model of a variant. Raises the ModelError family, and ConfigError on an unknown dtype or device."""
    return family_of(variant).load(variant, dtype=dtype, device=device, say=say)


def family_of(variant: str | Path) -> Family:
    """Return the family of a variant's name or a bundle's folder."""
    return MODELS[model_of(variant)].family()


def model_of(variant: str | Path) -> str:
    """Return the name of the model that a variant's name or a bundle's folder means.

    A name is no folder's, even where a folder of that name stands: write ./int4 for the folder. What is unknown, or is
    not there, is FlashSR's, whose errors say what was expected.
    """
    if isinstance(variant, str):
        for name, entry in MODELS.items():
            if variant in entry.family().variants():
                return name
    folder = Path(variant)
    others = (name for name, entry in MODELS.items() if name != FLASHSR and entry.family().holds(folder))
    return next(others, FLASHSR)


def variants() -> tuple[str, ...]:
    """Return the names that `--variant` takes; anything else is a bundle's folder."""
    return tuple(variant for entry in MODELS.values() for variant in entry.family().variants())


def about(variant: str) -> About | None:
    """Return what is said of the model of a variant's name; None for what is no name, like a bundle's folder."""
    return next((entry.about for entry in MODELS.values() if variant in entry.family().variants()), None)
