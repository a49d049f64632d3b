"""A notification on the desktop, where there is one. That there is none, or that it fails, is nobody's trouble."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from typing import Final

from batchsr.display import printable

_PATIENCE_S: Final = 5.0
_SCRIPT: Final = ("on run argv", "display notification (item 2 of argv) with title (item 1 of argv)", "end run")


def show(title: str, text: str) -> None:
    """Show a notification by notify-send, or osascript on a Mac. Takes five seconds at the most, and never fails."""
    command = command_for(printable(title), printable(text))
    if command is None:
        return
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            start_new_session=True,
        )


def command_for(title: str, text: str) -> list[str] | None:
    """Return the command that shows it on this system; None where there is none."""
    if sys.platform == "darwin" and shutil.which("osascript"):
        return ["osascript", *(word for line in _SCRIPT for word in ("-e", line)), title, text]
    if shutil.which("notify-send"):
        return ["notify-send", "--app-name=batchsr", "--", title, text]
    return None
