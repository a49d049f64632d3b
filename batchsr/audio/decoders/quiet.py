"""Keep C libraries from writing to the terminal: libmpg123 reports every odd bit there, and cannot be told not to.

What they say is nobody's to act on: a frame that lacks a few bits is heard all the same, and what is really missing is
found by the walk over the frames. Only C's own `stderr` stream is turned away, for as long as a call lasts. Python and
other processes do not write through it, so no message of anybody else is lost.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_lock = threading.Lock()
_calls = 0
_kept: int | None = None


def _stream() -> ctypes.c_void_p | None:
    """The variable that holds C's stream, where the system has it under a name that we know."""
    try:
        return ctypes.c_void_p.in_dll(ctypes.CDLL(None), "__stderrp" if sys.platform == "darwin" else "stderr")
    except (OSError, ValueError):
        return None


def _open_nowhere() -> int | None:
    try:
        library = ctypes.CDLL(None)
        library.fopen.restype = ctypes.c_void_p
        nowhere: int | None = library.fopen(b"/dev/null", b"w")
    except (OSError, AttributeError):
        return None
    return nowhere


_STREAM: Final = _stream()
_NOWHERE: Final = _open_nowhere()


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing that C code prints to its `stderr` be seen while the block runs; blocks may overlap in threads."""
    global _calls, _kept
    if _STREAM is None or _NOWHERE is None:
        yield
        return
    with _lock:
        _calls += 1
        if _calls == 1:
            _kept, _STREAM.value = _STREAM.value, _NOWHERE
    try:
        yield
    finally:
        with _lock:
            _calls -= 1
            if _calls == 0:
                _STREAM.value = _kept
