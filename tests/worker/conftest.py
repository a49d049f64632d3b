from __future__ import annotations

from pathlib import Path

import pytest
import rig


@pytest.fixture
def told() -> rig.Told:
    return rig.Told()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return [rig.record(tmp_path / "in" / f"{name}.wav", 0.4, seed=seed) for seed, name in enumerate("abc")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
