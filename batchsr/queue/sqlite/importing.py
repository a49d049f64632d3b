"""Taking in jobs that are done already, as what they left on the disk proves."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Final

from batchsr import faults
from batchsr.queue.finished import Finished
from batchsr.queue.job import Backend, Enqueued, Outcome, Result, State, folded_key
from batchsr.queue.sqlite.enqueue import CHUNK, Intake
from batchsr.queue.sqlite.reports import remarks_of
from batchsr.queue.sqlite.store import Store

_BACKEND: Final = tuple(field.name for field in dataclasses.fields(Backend))
_RESULT: Final = tuple(field.name for field in dataclasses.fields(Result) if field.name != "report")


def import_done(store: Store, finished: Iterable[Finished]) -> Iterator[Enqueued]:
    """Take in jobs that are done already and say for each, in order, what happened."""
    source = iter(finished)
    while chunk := list(itertools.islice(source, CHUNK)):
        with store.taking_in() as db:
            answers = History(store, db, [one.job for one in chunk]).record(chunk)
            faults.point("enqueue.during")
        yield from answers


class History(Intake):
    """One chunk in one transaction."""

    def record(self, chunk: list[Finished]) -> list[Enqueued]:
        """Note jobs that are done; `chunk` are those of the jobs that this one was made for."""
        answers = [self._record(one) for one in chunk]
        self._flush()
        return answers

    def _record(self, one: Finished) -> Enqueued:
        job = one.job
        if self._is_own_output(job.source):
            return Enqueued(None, Outcome.OWN_OUTPUT, job.source, None, job.source)
        known = self._by_dedupe.get(job.dedupe_key) or self._by_output.get(folded_key(job.output))
        if known is not None:
            done = known.state is State.DONE
            outcome = Outcome.ALREADY_DONE if done else Outcome.OTHER_SETTINGS
            return Enqueued(known.id, outcome, known.output, known.state, job.source)
        known = self._insert(job, job.output, State.DONE)
        report = json.dumps(one.result.report) if one.result.report is not None else None
        self._rows[-1] |= {
            **{name: getattr(one.backend, name) for name in _BACKEND},
            **{name: getattr(one.result, name) for name in _RESULT},
            "wall_s": one.result.wall_s or 0.0,
            "windows_done": one.result.windows_total or 0,
            "finished_at": one.finished_at,
            "remarks": remarks_of(report),
            "reason": "imported from its sidecar",
        }
        return Enqueued(known.id, Outcome.QUEUED, job.output, State.DONE, job.source)
