"""What is said of FlashSR where it is not loaded."""

from __future__ import annotations

from typing import Final

from batchsr.models.identity import About

ABOUT: Final = About(name="flashsr", says="", label="FlashSR", synthesises=True)
