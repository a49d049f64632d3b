"""What a command asks of a model that is not loaded: the names and folders that mean it, and what has its weights.

Neither this nor a module with a `Family` loads what computes: a command must know the names before it needs a model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from batchsr.errors import ModelUnavailable

if TYPE_CHECKING:
    from batchsr.models.identity import About
    from batchsr.models.interface import WindowModel


class Pulled(Protocol):
    """Where the files of a variant lie once they are fetched."""

    @property
    def variant(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def revision(self) -> str | None: ...
    @property
    def source(self) -> str: ...


class Family(Protocol):
    """A model that is not loaded: the names and folders that mean it, and what is done with its weights."""

    def variants(self) -> tuple[str, ...]:
        """Return the names that `--variant` takes for it; `--model NAME` alone means the first."""
        ...

    def holds(self, folder: Path) -> bool:
        """Return whether a folder holds a bundle of this model, by a glance at its files. Raises nothing."""
        ...

    def load(
        self, variant: str | Path, *, dtype: str | None, device: str | None, say: Callable[[str], None]
    ) -> WindowModel:
        """Load a variant, or the bundle in a folder. Raises the ModelError family, and ConfigError on dtype or device.

        `say` is told, in a sentence, what takes its time meanwhile.
        """
        ...

    def installed(self) -> list[dict[str, Any]]:
        """Return a row for each variant that has weights: variant, repository, cached, source, revision, bytes, path.

        Nothing is fetched or checked; what is not known is None.
        """
        ...

    def pull(self, variant: str, *, progress: bool, again: bool) -> Pulled:
        """Fetch a variant's newest weights. Raises ModelUnavailable, BundleError, ResourceError."""
        ...

    def check(self, variant: str | Path) -> dict[str, Any]:
        """Look a variant over from end to end, with a test window. Returns what was found, a JSON-able entry a line.

        Two are for programs: `warnings`, a list of sentences, and `ok`. Raises the ModelError family.
        """
        ...

    def warnings(self, folder: Path) -> list[str]:
        """Return what of the bundle in a folder is taken calmly, or why it cannot be read, a sentence each."""
        ...

    def look_over(self, dtype: str | None, device: str | None) -> tuple[dict[str, Any], bool]:
        """Return what it computes with on this machine, by name, and whether that fails: it restores nothing then."""
        ...


class WithoutWeights:
    """The family of a model that has no weights: one variant, of its own name, and nothing to fetch."""

    def __init__(self, about: About, make: Callable[[], WindowModel]) -> None:
        self._name = about.name
        self._make = make

    def variants(self) -> tuple[str, ...]:
        """Return its name."""
        return (self._name,)

    def holds(self, folder: Path) -> bool:
        """No folder holds any of it."""
        return False

    def load(
        self, variant: str | Path, *, dtype: str | None, device: str | None, say: Callable[[str], None]
    ) -> WindowModel:
        """Make it; neither precision nor device mean anything to it."""
        return self._make()

    def installed(self) -> list[dict[str, Any]]:
        """Return no row: there are no weights."""
        return []

    def pull(self, variant: str, *, progress: bool, again: bool) -> Pulled:
        """Raise ModelUnavailable: there is nothing to fetch."""
        raise self._nothing("fetch")

    def check(self, variant: str | Path) -> dict[str, Any]:
        """Raise ModelUnavailable: there is nothing to check."""
        raise self._nothing("check")

    def warnings(self, folder: Path) -> list[str]:
        """Return nothing."""
        return []

    def look_over(self, dtype: str | None, device: str | None) -> tuple[dict[str, Any], bool]:
        """Return that it computes with nothing."""
        return {"backend": "none needed", "self_test": f"{self._name} has no weights: there is nothing to test"}, False

    def _nothing(self, to: str) -> ModelUnavailable:
        return ModelUnavailable(
            f"the model {self._name} has no weights: there is nothing to {to}",
            remedy=f"use it as it is, with --model {self._name}",
        )
