"""How the C library hands out memory. Only glibc is told anything; elsewhere these do nothing."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Final

TRIM_THRESHOLD: Final = -1
MMAP_THRESHOLD: Final = -3
ARENA_MAX: Final = -8
"""Options of mallopt, as malloc.h numbers them."""


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
