"""Golden files, and models with the weights that they were made with."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchsr
from batchsr import FlashSR
from batchsr.models.compute import backend

backend.prepare(device="cpu")

# MLX may only be imported behind prepare.
from batchsr.models.flashsr import bundle  # noqa: E402
from batchsr.models.tools import make, random_weights  # noqa: E402

DATA = Path(__file__).resolve().parent.parent / "data"


def in_time(call: Callable[[], Any]) -> Any:
    """Return what `call` returns; fail where it is held up, by a FIFO for one."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it is held up, or raised"
    return found[0]


@dataclasses.dataclass(frozen=True)
class Golden:
    """One golden file: arrays of every stage, computed by the authors' PyTorch code with the recipe's weights."""

    size: str
    seed: str
    keys: dict[str, dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def write(self, folder: Path, format: str = "float32") -> Path:
        """A bundle with its weights and its window."""
        config = make.config_of_size(self.size, format=format, frame_samples=self.arrays["audio"].shape[1])
        inits = {name: entry["init"] for name, entry in self.keys.items()}
        bundle.write(folder, config, lambda name, shape: random_weights.draw(self.seed, name, shape, inits[name]))
        return folder

    @classmethod
    def read(cls, folder: Path, name: str, size: str) -> Golden:
        meta = json.loads((folder / f"keys_{name}.json").read_text())
        with np.load(folder / f"golden_{name}.npz") as arrays:
            return cls(size, meta["seed"], meta["keys"], dict(arrays))


def distance(out: Any, reference: np.ndarray) -> float:
    """norm(out - reference) / norm(reference), in float64."""
    out = np.asarray(out).astype(np.float64)
    assert out.shape == reference.shape
    return float(np.linalg.norm(out - reference) / np.linalg.norm(reference.astype(np.float64)))


@pytest.fixture(scope="session")
def golden() -> Golden:
    return Golden.read(DATA, "small", "small")


@pytest.fixture(scope="session")
def golden_model(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> FlashSR:
    return FlashSR.from_pretrained(golden.write(tmp_path_factory.mktemp("golden")), device="cpu")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    make.write_random(folder, make.config_of_size("tiny"), "tests")
    return folder


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> FlashSR:
    return FlashSR.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture
def tiny_copy(tiny_folder: Path, tmp_path: Path) -> Callable[[], Path]:
    """A copy of the tiny bundle that may be damaged."""

    def copy() -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        for path in tiny_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        return folder

    return copy


def tiny_bundle() -> Path:
    """The trained bundle that comes with the package."""
    return Path(batchsr.__file__).parent / "bundles" / "tiny"
