"""FlashSR as a family of the registry: its variants on the hub and in the package, its bundles in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchsr.errors import ModelError
from batchsr.models import hub

if TYPE_CHECKING:
    from batchsr.models.interface import WindowModel


class FlashSRFamily:
    """See batchsr.models.family.Family."""

    def variants(self) -> tuple[str, ...]:
        """Return the names that the hub's module knows."""
        return hub.variants()

    def holds(self, folder: Path) -> bool:
        """Return whether a config and weights of that name are there."""
        return all((folder / name).is_file() for name in hub.FILES)

    def load(
        self, variant: str | Path, *, dtype: str | None, device: str | None, say: Callable[[str], None]
    ) -> WindowModel:
        """Load it with MLX, after its self-test."""
        from batchsr.models.flashsr.model import FlashSR

        return FlashSR.from_pretrained(variant, dtype=dtype, device=device, say=say)

    def installed(self) -> list[dict[str, Any]]:
        """Return a row a variant."""
        return hub.list_models()

    def pull(self, variant: str, *, progress: bool, again: bool) -> hub.Location:
        """Fetch it from the hub."""
        return hub.pull(variant, progress=progress, again=again)

    def check(self, variant: str | Path) -> dict[str, Any]:
        """Check keys, shapes, hashes and weights, and restore a test window."""
        from batchsr.models.tools import check

        return check.check(variant)

    def warnings(self, folder: Path) -> list[str]:
        """Return those of its config and header. MLX must be prepared, as by `look_over`."""
        from batchsr.models.tools import check

        return check.warnings_of(folder)

    def look_over(self, dtype: str | None, device: str | None) -> tuple[dict[str, Any], bool]:
        """Return what MLX computes with here, with the self-test, or why nothing does."""
        from batchsr.models.compute import backend

        try:
            found = backend.doctor(dtype, device)
            chosen = backend.prepare(dtype, device)
        except ModelError as e:
            return {"backend": f"none: {e.message}", "remedy": e.remedy}, True
        from batchsr.models import self_test

        try:
            outcome = self_test.run(chosen)
        except ModelError as e:
            return {**found, "self_test": f"not made: {e.message}", "remedy": e.remedy}, True
        found |= {"self_test": f"{chosen.dtype}: {outcome}"}
        if outcome.passed:
            return found, False
        return {**found, "remedy": self_test.failure(chosen, outcome).remedy}, True
