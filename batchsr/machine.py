"""What this process has of its machine: cores, and memory as the C library hands it out.

Of C libraries only glibc is told anything; with others `tune` and `trim` do nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from typing import Final

TRIM_THRESHOLD: Final = -1
MMAP_THRESHOLD: Final = -3
ARENA_MAX: Final = -8
"""Options of mallopt, as malloc.h numbers them."""


def cores() -> int:
    """Return how many cores this process may use, at least one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tune(option: int, value: int) -> None:
    """Set one of the options above, for this process from now on."""
    if (libc := _glibc()) is not None:
        libc.mallopt(option, value)


def trim() -> None:
    """Give what is free back to the system."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if libc is not None and hasattr(libc, "mallopt") else None
