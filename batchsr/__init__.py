"""Restore archives of narrowband recordings to 48 kHz with FlashSR on MLX.

    from batchsr import FlashSR
    model = FlashSR.from_pretrained("int4")
    y = model.upsample(x, sample_rate)

    from batchsr import restore_file
    restore_file("call.wav", "call_48k.flac", variant="int4", keep_band=True)

Importing `batchsr` is cheap: the model, and with it MLX, is loaded when `FlashSR` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchsr.models.flashsr.model import FlashSR
    from batchsr.restoration.single import restore_file

__version__ = "0.1.0"
__all__ = ["FlashSR", "__version__", "restore_file"]


def __getattr__(name: str) -> Any:
    if name == "FlashSR":
        from batchsr.models.flashsr.model import FlashSR

        return FlashSR
    if name == "restore_file":
        from batchsr.restoration.single import restore_file

        return restore_file
    raise AttributeError(f"module 'batchsr' has no attribute {name!r}")
