from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rig

from batchsr.queue import Queue


@pytest.fixture
def clock() -> rig.HandClock:
    return rig.HandClock()


@pytest.fixture
def queue(tmp_path: Path, clock: rig.HandClock) -> Iterator[Queue]:
    """An empty queue; when the test is over it must still be sound."""
    with Queue.open(tmp_path / "queue.db", clock=clock) as opened:
        yield opened
        assert opened.check() == []
