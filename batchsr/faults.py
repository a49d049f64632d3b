"""Named points at which a test may end the process, as a power cut would.

`BATCHSR_FAULT=NAME:N` sends SIGKILL to this process the Nth time (from 1) that the point NAME is reached.
Without the variable a point costs one global look-up. The crash tests run the program once for every name
in `POINTS`; a point that is not listed there is a programming error.
"""

from __future__ import annotations

import os
import signal
from typing import Final

POINTS: Final = (
    "claim.after",
    "slot.before_write",
    "slot.after_write",
    "slot.after_fsync",
    "slot.after_row",
    "assemble.during",
    "committing.before",
    "committing.after",
    "rename.before",
    "rename.after",
    "sidecar.after",
    "folder_fsync.before",
    "folder_fsync.after",
    "done.before",
    "done.after",
    "migration.during",
    "enqueue.during",
    "reaper.during",
    "undo.moved",
    "undo.before_row",
    "export.step",
)

_wanted, _, _count = os.environ.get("BATCHSR_FAULT", "").partition(":")
_left = int(_count or "1")


def point(name: str) -> None:
    """Die here with SIGKILL if the environment asked for it."""
    global _left
    if name != _wanted:
        return
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
