"""A store on this machine, and the program's way to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig
from object_store import Store, point_at, served

from batchsr.remote import stores


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store, named to the program by the environment, whose faults are met without long waits."""
    one = Store()
    with contextlib.contextmanager(served)(one) as endpoint:
        point_at(monkeypatch, endpoint)
        yield one
    stores.forget()


@pytest.fixture
def tape(tmp_path: Path) -> bytes:
    """A recording's bytes."""
    return rig.record(tmp_path / "tape.wav", 0.8).read_bytes()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def told() -> rig.Told:
    return rig.Told()
