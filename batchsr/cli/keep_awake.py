"""Keeping the machine awake while a worker has files in flight."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from batchsr.intake.child_processes import SleepInhibitor
from batchsr.intake.services import LAUNCHD_AWAKE, SYSTEMD_AWAKE


@contextlib.contextmanager
def staying_awake(listener: Any, command: str | None, *, allowed: bool) -> Iterator[Any]:
    """Return the listener, which from now on keeps the machine awake from a claim until there is nothing to do.

    By `command`, else by what the system has for it; that it fails is said of a command that was asked for alone.
    """
    words = shlex.split(command) if command else default_command()
    if not allowed or not words:
        yield listener
        return
    say = listener.message if command else _ignore
    with SleepInhibitor(words, say, quiet=not command) as inhibitor:
        yield _ListenerWithInhibitor(listener, inhibitor)


def default_command() -> Sequence[str]:
    """Return the command that keeps this system awake while another runs, or nothing where there is none."""
    words = shlex.split(LAUNCHD_AWAKE if sys.platform == "darwin" else SYSTEMD_AWAKE)
    return words if shutil.which(words[0]) else ()


def _ignore(text: str) -> None:
    """Take what nobody asked for."""


class _ListenerWithInhibitor:
    """A worker's listener, and the inhibitor beside it."""

    def __init__(self, listener: Any, inhibitor: SleepInhibitor) -> None:
        self._listener = listener
        self._inhibitor = inhibitor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def claimed(self, *facts: Any) -> None:
        self._inhibitor.hold(True)
        self._listener.claimed(*facts)

    def waiting(self, *facts: Any) -> None:
        self._inhibitor.hold(False)
        self._listener.waiting(*facts)

    def paused(self, *facts: Any) -> None:
        self._inhibitor.hold(False)
        self._listener.paused(*facts)
