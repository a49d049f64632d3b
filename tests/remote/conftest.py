"""A store on this machine, and the program's way to it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import rig
from object_store import Store, served

from batchsr.remote import fetch, publish, stores


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store, named to the program by the environment, whose faults are met without long waits."""
    one = Store()
    with contextlib.contextmanager(served)(one) as endpoint:
        point_at(monkeypatch, endpoint)
        yield one
    stores.forget()


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-key")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(stores, "_RETRIES", 0)
    monkeypatch.setattr(stores, "TIMEOUT_S", 5.0)
    monkeypatch.setattr(fetch, "PIECE_BYTES", 4096)
    monkeypatch.setattr(publish, "_tried", set())
    monkeypatch.setattr(rig, "OPTIONS", dataclasses.replace(rig.OPTIONS, wait_for_places_s=5))
    monkeypatch.setattr(rig.work, "__defaults__", (None, rig.OPTIONS))
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
