"""Keep C libraries from writing to the terminal: libmpg123 reports every odd bit there, and cannot be told not to.

libsndfile does the same for damaged MIDI sample dumps, to standard output, which is data.

What they say is nobody's to act on: a frame that lacks a few bits is heard all the same, and what is really missing is
found by the walk over the frames. Only C's own streams are turned away, for as long as a call lasts. Python and
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
_kept: list[int | None] = []


def _streams() -> list[ctypes.c_void_p]:
    """Return the variables that hold C's streams, where the system has them under names that we know."""
    names = ("__stderrp", "__stdoutp") if sys.platform == "darwin" else ("stderr", "stdout")
    try:
        library = ctypes.CDLL(None)
        return [ctypes.c_void_p.in_dll(library, name) for name in names]
    except (OSError, ValueError):
        return []


def _open_nowhere() -> int | None:
    try:
        library = ctypes.CDLL(None)
        library.fopen.restype = ctypes.c_void_p
        nowhere: int | None = library.fopen(b"/dev/null", b"w")
    except (OSError, AttributeError):
        return None
    return nowhere


_STREAMS: Final = _streams()
_NOWHERE: Final = _open_nowhere()


@contextmanager
def quiet() -> Iterator[None]:
    """Let nothing that C code prints be seen while the block runs; blocks may overlap in threads."""
    global _calls, _kept
    if not _STREAMS or _NOWHERE is None:
        yield
        return
    with _lock:
        _calls += 1
        if _calls == 1:
            _kept = [stream.value for stream in _STREAMS]
            for stream in _STREAMS:
                stream.value = _NOWHERE
    try:
        yield
    finally:
        with _lock:
            _calls -= 1
            if _calls == 0:
                for stream, kept in zip(_STREAMS, _kept, strict=True):
                    stream.value = kept
