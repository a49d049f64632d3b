"""SciPy's BLAS, which nearly every part of SciPy loads, and which must know the processor.

OpenBLAS looks at the processor, and at its variables, as it is loaded. So whoever may be the first in a process to
load such a part (`scipy.linalg`, `scipy.fft`, `scipy.signal`) calls `load` before.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

_VARIABLE: Final = "OPENBLAS_CORETYPE"
_loading = threading.Lock()


def load() -> None:
    """Load SciPy's BLAS, for this processor; from any thread, and as often as one likes. Raises ImportError."""
    with _loading:
        chosen = core()
        if chosen:
            os.environ[_VARIABLE] = chosen
        try:
            import scipy.linalg  # noqa: F401
        finally:
            if chosen:
                del os.environ[_VARIABLE]


def core() -> str | None:
    """Return what OpenBLAS should take this processor for; None to leave it alone.

    It takes AMD's processors with AVX-512 for ones without, at a third of their speed.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    first = {key.strip(): value for key, _, value in (line.partition(":") for line in reversed(lines))}
    if os.environ.get(_VARIABLE) or first.get("vendor_id", "").strip() != "AuthenticAMD":
        return None
    return "SkylakeX" if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= set(first["flags"].split()) else None
