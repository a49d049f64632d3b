"""The files that a worker has in flight, each in a thread of its own, all before one model.

While the model computes one file's windows, the file before is finished and the next one is begun. Another file is
claimed when those in flight have fewer rows left than two passes take, so there are as few as keep the model
busy: two or three long files, or some more than a pass has rows of clips with one window.

The time in which several files are in flight is shared out evenly among them. So the files' times add up to the
worker's, and a file's real-time factor means what it does where one file is restored after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from batchsr import machine
from batchsr.queue import Job

_PASSES_AHEAD: Final = 2  # one is computed, one is ready
_MOST_FINISHING: Final = 2  # files that are being finished while others fill the passes
MOST_FILES: Final = 66


class InFlightFile:
    """One file in flight."""

    def __init__(self, together: InFlightFiles, job: Job, rows: int) -> None:
        self.job = job
        self.rows_left = rows
        """Rows that the model has still to compute; an estimate until the file was read."""
        self.suspect = job.crashes > 0
        """Its last worker died, and it has made no window since. It is restored alone: if this worker dies as well,
        it is this file's doing, and no other is blamed for it."""
        self.charged_s = 0.0
        self.begun = False
        self.abandoned = False
        """No thread could be started for it."""
        self._all = together

    def progress(self, rows_left: int, *, progressed: bool) -> None:
        """Note that so many rows are left now; `progressed` when windows were made."""
        self._all.update(self, rows_left, progressed)

    def spent_s(self) -> float:
        """This file's share of the time so far."""
        return self._all.charge(self)


class InFlightFiles:
    """The threads of the files in flight. One thread, the one that claims, calls all methods but `wake`."""

    def __init__(self) -> None:
        self._files: dict[int, InFlightFile] = {}
        self._pool = ThreadPoolExecutor(MOST_FILES, thread_name_prefix="file")
        self._changed = threading.Condition()
        self._changes = self._seen = 0
        self._error: BaseException | None = None
        self._charged_at_s = time.monotonic()

    def __enter__(self) -> Self:
        _share_memory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until every file is let go of."""
        self._pool.shutdown()
        if error is None:
            self._raise()

    def __len__(self) -> int:
        return len(self._files)

    @property
    def jobs(self) -> list[Job]:
        """The jobs in flight, the oldest claim first."""
        with self._changed:
            return [file.job for file in self._files.values()]

    def have_room(self, batch_windows: int) -> bool:
        """Return whether another file is needed to keep a model busy that computes so many rows at a time."""
        with self._changed:
            files = list(self._files.values())
        rows = _PASSES_AHEAD * batch_windows
        return (
            len(files) < min(rows + _MOST_FINISHING, MOST_FILES)
            and sum(file.rows_left for file in files) < rows
            and not any(file.suspect for file in files)
        )

    def start(self, job: Job, rows: int, work: Callable[[InFlightFile], None]) -> None:
        """Start on a file, which gives the model so many rows: `work` in a thread of its own.

        Raises RuntimeError when no thread can be started; the file is not in flight then.
        """
        file = InFlightFile(self, job, rows)
        with self._changed:
            self._charge()
            self._files[job.id] = file
        try:
            self._pool.submit(self._run, file, work)
        except RuntimeError:
            with self._changed:
                if file.begun:  # the pool had it already, and another file's thread has taken it
                    return
                file.abandoned = True  # the pool has it still
                del self._files[job.id]
            raise

    def wait(self, seconds: float) -> None:
        """Wait until something changed since the last call, at most so long. Raises what a file's thread ended with."""
        with self._changed:
            self._changed.wait_for(lambda: self._changes != self._seen, seconds)
            self._seen = self._changes
        self._raise()

    def wake(self) -> None:
        """End the wait."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def update(self, file: InFlightFile, rows_left: int, progressed: bool) -> None:
        """Note how far a file is."""
        file.rows_left = rows_left
        file.suspect = file.suspect and not progressed
        self.wake()

    def charge(self, file: InFlightFile) -> float:
        """Return a file's share of the time so far, seconds."""
        with self._changed:
            self._charge()
            return file.charged_s

    def _charge(self) -> None:
        now_s = time.monotonic()
        for file in self._files.values():
            file.charged_s += (now_s - self._charged_at_s) / len(self._files)
        self._charged_at_s = now_s

    def _run(self, file: InFlightFile, work: Callable[[InFlightFile], None]) -> None:
        with self._changed:
            if file.abandoned:
                return
            file.begun = True
        try:
            work(file)
        except BaseException as e:  # noqa: BLE001 - the thread that claims raises it
            self._error = self._error or e
        finally:
            with self._changed:
                self._charge()
                del self._files[file.job.id]
            self.wake()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


def _share_memory() -> None:
    """Let all threads take their memory from two pools.

    glibc gives threads eight pools a core, and what files' arrays leave in each is lost to the others: 400 clips in
    turn took 330 MB instead of 245.
    """
    machine.tune(machine.ARENA_MAX, 2)
