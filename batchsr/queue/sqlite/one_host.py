"""What is asked of a queue about its hosts, where all workers are of one."""

from __future__ import annotations

from collections.abc import Callable

from batchsr.errors import UsageError
from batchsr.queue.job import Job, Result


class OneHost:
    """A queue whose workers are all of this machine: none can be taken out alone."""

    def pause_host(self, name: str, reason: str = "") -> str:
        """Raise UsageError."""
        raise UsageError("a queue in a file has one host", remedy="`batchsr pause`, without --host")

    def resume_host(self, name: str) -> tuple[str, bool]:
        """Raise UsageError."""
        raise UsageError("a queue in a file has one host", remedy="`batchsr resume`, without --host")

    def standing(self, job: Job, sha256: Callable[[], str]) -> Result | None:
        """Return what a claim of this job was about to publish with this hash: None, for here nobody loses a claim
        alive between the row and the name, and the row itself knows the last one."""
        return None

    def correct(self, job: Job, result: Result | None) -> Job | None:
        """Return None: a record of this queue speaks of its job's file."""
        return None
