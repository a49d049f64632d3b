"""What becomes of settled files: into the queue, and after the work out of the folder.

Nothing is kept beside the queue. Whether a source is to be moved is derived: it stands under its name,
it is the very file of a job, and that job is over. So a crash between the queue and the move costs nothing but
time: the next run finds the file, the queue says "already done", and the move is made.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.display import counted
from batchsr.errors import QueueError, ResourceError, TransientError
from batchsr.intake import gather, moving
from batchsr.intake.settle import FileStat, SettledFile, look
from batchsr.intake.watcher import Scope, Watcher
from batchsr.queue import TERMINAL, Job, Outcome, Queue, State

_ASK_AT_ONCE: Final = 1000  # jobs whose state is asked for in one query
_TROUBLE_S: Final = 5.0  # between tries at a move that cannot be made
_SAY_AGAIN_S: Final = 3600.0
_ASK_SHARE: Final = 20  # asking takes at most a twentieth of the time, however long the queue is
_STAYS: Final = (
    State.FAILED,
    State.QUARANTINED,
)  # what a source does whose job failed, where nothing else is asked for
_NOT_NOW: Final = (QueueError, ResourceError, TransientError, OSError)


@dataclasses.dataclass(frozen=True, slots=True)
class After:
    """What happens to a source when its job is over: it stays, unless a folder or a list is named."""

    folder: str | None = None
    """The source moves there, keeping its place in the tree."""
    listing: str | None = None
    """A file that gets the source's path as a line, once."""

    def __bool__(self) -> bool:
        return self.folder is not None or self.listing is not None


class HotFolder:
    """Feeds the queue from a watcher. One tick at a time; whoever runs it owns the loop."""

    def __init__(
        self,
        queue: Queue,
        watcher: Watcher,
        scope: Scope,
        request: gather.Request,
        *,
        done: After = After(),
        failed: After = After(),
        told: Callable[[gather.Intake], None] = lambda taken: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._queue = queue
        self._watcher = watcher
        self._scope = scope
        self._request = request
        self._done = done
        self._failed = failed
        self._told = told
        self._say = say
        self._backlog: list[SettledFile] = []
        self._job_of: dict[str, int] = {}
        self._moved: set[str] = set()
        self._open: dict[int, tuple[str, FileStat]] = {}  # jobs whose sources wait to be moved or listed
        self._counts: tuple[int, ...] = ()
        self._look_again_s = self._look_at_places_s = 0.0
        self._listed: dict[str, set[bytes]] = {}
        self._complaints: dict[str, float] = {}  # what was said, and when it may be said again

    def tick(self, settled: Iterable[SettledFile]) -> None:
        """Enqueue these files, drop the jobs of files that were removed, move the sources of jobs that are over.

        A queue or a disk that cannot be used now is said once an hour, and tried again soon.
        """
        self._backlog.extend(settled)
        try:
            if self._backlog:
                self._enqueue()
            self._drop_removed()
            if self._open:
                self._look_after()
        except _NOT_NOW as e:
            now_s = time.monotonic()
            if now_s >= self._complaints.get(str(e), 0.0):
                self._complaints = {text: until_s for text, until_s in self._complaints.items() if until_s > now_s}
                self._complaints[str(e)] = now_s + _SAY_AGAIN_S
                self._say(f"{e}; it is tried again")

    def finish(self) -> None:
        """Move what is over, now: the last look of a run is not put off as those within it are."""
        self._look_again_s = 0.0
        self._counts = ()
        self.tick([])

    def _enqueue(self) -> None:
        # What cannot be looked at now (gone, or on a share that drops) is found again by a later scan.
        by_path = {one.path: one for one in self._backlog if look(one.path) is not None}
        self._backlog = list(by_path.values())
        found = [gather.Found(path, self._scope.root_of(path) or os.path.dirname(path)) for path in by_path]
        others = 0
        for taken in gather.enqueue(self._queue, found, self._request):
            one = by_path[taken.job.source]
            if one.renamed_from is not None:
                self._cancel(one.renamed_from)
            # As it settled, not as it was probed: if it changed in between, the watcher sees a difference, and waits.
            self._watcher.remember(one.path, one.look)
            job_id = taken.enqueued.job_id
            if job_id is not None and taken.enqueued.outcome is Outcome.NEEDS_RETRY and one.path in self._moved:
                self._moved.discard(one.path)  # put back after it had failed: that asks to try again
                self._queue.retry([job_id])
                self._say(f"{one.path} was put back: job {job_id} is tried again")
            if job_id is not None:
                self._job_of[one.path] = job_id
                if self._done or self._failed:
                    self._open[job_id] = (one.path, one.look)
                    self._counts = ()
            if taken.enqueued.outcome in (Outcome.QUEUED, Outcome.SUPERSEDING):
                if not one.whole:
                    self._say(f"{one.path} never became whole; it is queued, so that the queue says what is wrong")
                self._told(taken)
            others += taken.enqueued.outcome is Outcome.OTHER_SETTINGS
        if others:
            self._say(
                f"{counted(others, 'file is', 'files are')} known with other settings, and left as they are: "
                "`batchsr enqueue --update` gives them new ones"
            )
        self._backlog.clear()

    def _drop_removed(self) -> None:
        """Nobody wants restored what was taken out of the folder, nor waits for it as for what lies on a lost share."""
        for path in [*self._watcher.take_gone(), *self._held_and_removed()]:
            self._cancel(path)

    def _held_and_removed(self) -> list[str]:
        """Return sources whose jobs are held for their folder, though its share is there: they were removed."""
        if (began_s := time.monotonic()) < self._look_at_places_s:
            return []
        folders = [
            os.path.join(place.trouble.path, "")
            for place in self._queue.places(counted=False)
            if place.trouble.side == "source"
        ]
        removed = [path for path in self._job_of if path.startswith(tuple(folders)) and self._is_removed(path)]
        self._look_at_places_s = began_s + _ASK_SHARE * (time.monotonic() - began_s)
        return removed

    def _is_removed(self, path: str) -> bool:
        return not os.path.lexists(path) and self._scope.root_of(path) is not None and self._watcher.is_here(path)

    def _cancel(self, path: str) -> None:
        job_id = self._job_of.pop(path, None)
        if job_id is not None and self._queue.cancel([job_id]):
            self._say(f"{path} was removed or renamed before its turn: job {job_id} is cancelled")

    def _look_after(self) -> None:
        if (began_s := time.monotonic()) < self._look_again_s:
            return
        counts = self._queue.counts()
        state = tuple(counts[name] for name in TERMINAL)
        if state == self._counts:
            self._look_again_s = began_s + _ASK_SHARE * (time.monotonic() - began_s)
            return
        # Failed ones stay where they are, and a retry may yet do them: many of them must not be read each time.
        states = TERMINAL if self._failed else tuple(one for one in TERMINAL if one not in _STAYS)
        ids = list(self._open)
        trouble: ResourceError | None = None
        away = False
        for start in range(0, len(ids), _ASK_AT_ONCE):
            for job in self._queue.jobs(states=states, ids=ids[start : start + _ASK_AT_ONCE]):
                try:
                    settled = self._finish(job)
                except ResourceError as e:  # one folder that cannot be written to must not keep the others waiting
                    trouble = e
                else:
                    if settled:
                        del self._open[job.id]
                    else:
                        away = True
        now_s = time.monotonic()
        self._look_again_s = now_s + _ASK_SHARE * (now_s - began_s)
        if trouble is not None or away:
            self._look_again_s = max(self._look_again_s, now_s + _TROUBLE_S)
        else:
            self._counts = state
        if trouble is not None:
            raise trouble

    def _finish(self, job: Job) -> bool:
        """Do with the source of a job that is over what is asked for. False: its folder is away, so not now."""
        path, expected = self._open[job.id]
        after = self._done if job.state is State.DONE else self._failed
        over = job.state in (State.CANCELLED, State.SUPERSEDED)
        if (
            over
            or not after
            or (job.size_bytes, job.mtime_ns) != (expected.size_bytes, storage.kept_ns(expected.mtime_ns))
        ):
            return True
        if look(path) != expected:
            return self._is_settled(path, expected)
        if after.listing is not None:
            self._list(Path(after.listing), path)
        if after.folder is not None:
            relative = os.path.relpath(path, self._scope.root_of(path) or os.path.dirname(path))
            to = moving.move(Path(path), Path(after.folder), relative, expected)
            if to is None:
                return self._is_settled(path, expected)
            self._watcher.forget(path)
            self._moved.add(path)
            self._job_of.pop(path, None)
            self._say(f"{path} moved to {to}")
        return True

    def _is_settled(self, path: str, expected: FileStat) -> bool:
        """Return whether a source that is not what it was is gone or another one, and not just away with its share."""
        return self._watcher.is_here(path) and look(path) != expected and self._watcher.is_here(path)

    def _list(self, listing: Path, path: str) -> None:
        """Add a line, durably, unless it is there: a crash after the line must not make a second one."""
        with storage.resource_errors(listing, "write"):
            if after := self._listed.get(str(listing)):
                lines = after
            else:
                lines = self._listed[str(listing)] = set(listing.read_bytes().splitlines() if listing.exists() else ())
            line = os.fsencode(path)
            if line in lines:
                return
            with os.fdopen(storage.open_own(listing, os.O_WRONLY | os.O_APPEND), "ab") as file:
                if file.tell() and not _ends_with_newline(listing):
                    file.write(b"\n")  # a crash cut the last line: what is left of it stands alone
                file.write(line + b"\n")
                file.flush()
                storage.fsync(file.fileno())
            lines.add(line)


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
