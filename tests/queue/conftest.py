from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
import rig

from batchsr.queue import Queue
from batchsr.queue.opening import open_queue
from batchsr.queue.postgres.api import PostgresQueue


@pytest.fixture
def clock() -> rig.HandClock:
    return rig.HandClock()


IMPLEMENTATIONS = {
    "sqlite": lambda folder, clock: open_queue(folder / "queue.db", clock=clock),
    "postgres": lambda folder, clock: PostgresQueue.connect(postgres.made(folder), clock=clock, beat_s=0.0),
}
"""Every way to keep a queue. The tests of the promises run against each."""


@pytest.fixture(params=IMPLEMENTATIONS)
def queue(request: pytest.FixtureRequest, tmp_path: Path, clock: rig.HandClock) -> Iterator[Queue]:
    """An empty queue; when the test is over it must still be sound."""
    with IMPLEMENTATIONS[request.param](tmp_path, clock) as opened:
        yield opened
        assert opened.check() == []
