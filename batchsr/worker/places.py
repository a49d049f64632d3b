"""The places in trouble, as one worker deals with them: it lets no job near them, and looks whether they work again.

Which jobs a place holds is in the queue, for all workers; how long to wait until the next look is each worker's own.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final

from batchsr.queue import Job, Place, Trouble, WorkQueue
from batchsr.worker import diagnosis, shares
from batchsr.worker.listener import Listener
from batchsr.worker.options import WorkerOptions

LONGEST_PROBE_PAUSE_S: Final = 30.0
_Key = tuple[str, str]


class Places:
    """What one worker knows of places in trouble. `shortage` says, for a job, whether its disks lack room."""

    def __init__(
        self,
        queue: WorkQueue,
        options: WorkerOptions,
        listener: Listener,
        shortage: Callable[[Job], Trouble | None],
    ) -> None:
        self._queue = queue
        self._options = options
        self._listener = listener
        self._shortage = shortage
        self._known: list[Place] = []
        self._tries: dict[_Key, tuple[int, Trouble]] = {}
        """Looks and failures in a row."""
        self._due_s: dict[_Key, float] = {}
        self._told: set[_Key] = set()
        self._lock = threading.RLock()  # files in flight tell of their troubles, each in its thread

    def look_after(self) -> None:
        """Learn which places are in trouble, try those again whose time has come, and free what they held."""
        self._known = self._queue.places(self._options.variant, counted=False)
        for place in list(self._known):
            key = _key(place.trouble)
            if key not in self._due_s:  # another worker, or an earlier run, found it
                if key in self._tries:
                    self._wait_longer(place.trouble)
                else:
                    self._due_s[key] = -math.inf
            if key not in self._told:
                self._tell(place.trouble)
            if self._queue.clock.steady() < self._due_s[key]:
                continue
            job = self._queue.held_job(place)
            if job is None or self._still(place.trouble, job):
                self._wait_longer(place.trouble)
                continue
            self._queue.free(place)
            self._known.remove(place)
            self._due_s.pop(key, None)
            self._told.discard(key)
            self._listener.freed(place.trouble)

    def trouble_for(self, job: Job) -> Trouble | None:
        """Return the trouble of a known place that this job cannot do without."""
        for place in self._known:
            if diagnosis.lies_on(place.trouble, job) and self._still(place.trouble, job):
                return place.trouble
        return shares.trouble_of(job) if self._queue.shared else None

    def failed(self, trouble: Trouble) -> None:
        """Wait after a job met trouble, before the place is tried again, each time longer until a file is done
        there."""
        self._wait_longer(trouble)
        self._tell(trouble)

    def worked(self, job: Job) -> None:
        """Forget what the places of a file went through that was done."""
        with self._lock:
            for key in [key for key, (_, trouble) in self._tries.items() if diagnosis.lies_on(trouble, job)]:
                del self._tries[key]

    def _still(self, trouble: Trouble, job: Job) -> bool:
        """Return whether the place fails this job now."""
        if self._queue.shared and shares.trouble_of(job) is not None:
            return True
        if trouble.side == "source":
            return diagnosis.source_trouble(job) is not None
        if self._shortage(job) is not None:
            return True
        if trouble.code == "short":
            return False
        if trouble.side == "output":
            return not diagnosis.can_write_to(job)
        return not diagnosis.can_write(self._queue.scratch_folder)

    def _wait_longer(self, trouble: Trouble) -> None:
        key = _key(trouble)
        with self._lock:
            self._count(key, trouble)

    def _count(self, key: _Key, trouble: Trouble) -> None:
        tries = self._tries.get(key, (0, trouble))[0] + 1
        self._tries[key] = tries, trouble
        pause_s = min(LONGEST_PROBE_PAUSE_S, self._options.poll_s * 2.0 ** min(tries - 1, 10))
        self._due_s[key] = self._queue.clock.steady() + pause_s

    def _tell(self, trouble: Trouble) -> None:
        with self._lock:
            if _key(trouble) in self._told:
                return
            self._told.add(_key(trouble))
        self._listener.held(trouble)


def _key(trouble: Trouble) -> _Key:
    return trouble.path, trouble.side
