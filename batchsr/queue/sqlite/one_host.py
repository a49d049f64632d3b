"""What is asked of a queue about its hosts, where all workers are of one."""

from __future__ import annotations

from batchsr.errors import UsageError


class OneHost:
    """A queue whose workers are all of this machine: none can be taken out alone."""

    def pause_host(self, name: str, reason: str = "") -> str:
        """Raise UsageError."""
        raise UsageError("a queue in a file has one host", remedy="`batchsr pause`, without --host")

    def resume_host(self, name: str) -> tuple[str, bool]:
        """Raise UsageError."""
        raise UsageError("a queue in a file has one host", remedy="`batchsr resume`, without --host")
