"""Two hosts at one output in a store: it is one's, and sidecar and record are of the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import postgres
import pytest
import rig
from object_store import Store

from batchsr.errors import ClaimLost
from batchsr.intake import gather
from batchsr.queue import State
from batchsr.queue.postgres.api import PostgresQueue
from batchsr.remote.publish import Upload
from batchsr.settings.profile import Settings
from batchsr.worker.worker import run

OUTPUT = "out/tape_upsampled.wav"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[PostgresQueue, PostgresQueue]]:
    made = postgres.made(tmp_path / "one")
    with (
        PostgresQueue.connect(made, beat_s=0.0) as one,
        PostgresQueue.connect(dataclasses.replace(made, folder=tmp_path / "two"), beat_s=0.0) as two,
    ):
        yield one, two


class Quieter(rig.FastModel):
    """Gives other bytes, as another kind of device may."""

    def windows(self, timestep: int, seed: int) -> Any:
        window = super().windows(timestep, seed)
        return lambda x, indices: window(np.float32(0.5) * x, indices)


def work(queue: PostgresQueue, model: rig.FastModel, **options: Any) -> None:
    run(queue, lambda: model, dataclasses.replace(rig.OPTIONS, wait_for_places_s=1, **options))


@pytest.mark.parametrize("wakes", ["before the other begins", "when the other has committed", "after it is done"])
def test_a_host_that_wakes_before_it_writes_leaves_one_output_with_its_own_record(
    store: Store, hosts: tuple[PostgresQueue, PostgresQueue], tape: bytes, monkeypatch: pytest.MonkeyPatch, wakes: str
) -> None:
    slow, other = hosts
    store.put("in/tape.wav", tape)
    found = [one for one in gather.gather(["s3://tapes/in/"], recursive=True) if isinstance(one, gather.Found)]
    list(gather.enqueue(slow, found, gather.Request(Settings(), out="s3://tapes/out")))
    whole = Upload.take_name
    slept = []

    def asleep(upload: Upload, replaces: Any) -> None:
        monkeypatch.setattr(Upload, "take_name", whole)
        slept.append(wakes)
        with slow._pg.writing() as db:  # as if its lease were over
            db.execute("UPDATE attempts SET ended_at = seen_at, outcome = 'crash' WHERE ended_at IS NULL")
            db.execute("UPDATE jobs SET state = 'queued', worker = NULL, changed_at = 1 WHERE worker IS NOT NULL")
        if wakes == "after it is done":
            work(other, Quieter())
        if wakes == "when the other has committed":

            def second(others: Upload, replaced: Any) -> None:
                whole(upload, replaces)
                whole(others, replaced)

            monkeypatch.setattr(Upload, "take_name", second)
            work(other, Quieter())
            raise ClaimLost("it finds that out when it writes that it is done")
        whole(upload, replaces)

    monkeypatch.setattr(Upload, "take_name", asleep)
    work(slow, rig.FastModel(), limit=1)
    work(other, Quieter())
    (job,) = slow.jobs()
    digest = hashlib.sha256(store.data(OUTPUT)).hexdigest()
    assert slept == [wakes]
    assert (job.state, job.output_sha256) == (State.DONE, digest), job.error
    assert json.loads(store.data(OUTPUT + ".json"))["output"]["sha256"] == digest
    assert [event["new"] for event in slow.events(job.id)].count("done") == 1
    assert store.names() == ["in/tape.wav", OUTPUT, OUTPUT + ".json"]
