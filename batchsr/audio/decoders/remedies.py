"""What to do about a file that is refused: a command that was tried on it, never one that gives nothing.

ffmpeg reads much that is refused here, and much of it not. Where it is on the machine, it is asked for a first block of
sound before it is offered; where it is not, or does not answer in time, the sentence says "may".
"""

from __future__ import annotations

import os
import shutil
from typing import Final

import numpy as np

from batchsr.audio.decoders import ffmpeg
from batchsr.display import shown

NOBODY: Final = "copy it again from where it came, or ask whoever made it"
_LOUDEST: Final = 1e3
"""Samples beyond this, +60 dB over full scale, are what a wrong reading gives, and no sound."""
_MOST_REMEMBERED: Final = 1_024
_tried: dict[tuple[str | None, str, tuple[int, ...]], bool | None] = {}


def by_ffmpeg(fd: int, name: str, purpose: str, *, first: str = "", otherwise: str = NOBODY, filters: str = "") -> str:
    """Return what to do about the open file that is shown as `name`: `first`, then the command that is good for
    `purpose`.

    `otherwise` is the whole remedy where ffmpeg is there and gives no sound of this file. `filters` go behind `-af`.
    """
    gives = gives_sound(fd, filters)
    if gives is False:
        return otherwise
    options = f"-af {filters} " if filters else ""
    return f"{first}{purpose if gives else 'ffmpeg may read it'}: {_word()} -i {name} {options}OUT.wav"


def gives_sound(fd: int, filters: str = "") -> bool | None:
    """Return whether ffmpeg gives plausible sound of an open file, remembered for as long as the file stays as it is.

    None where there is no ffmpeg, or where it takes too long to tell.
    """
    status = os.fstat(fd)
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    key = (ffmpeg.program(), filters, identity)
    if key not in _tried:
        while len(_tried) >= _MOST_REMEMBERED:
            _tried.pop(next(iter(_tried)), None)
        block = ffmpeg.first_block(fd, filters=filters)
        _tried[key] = None if block is None else bool(block.size) and bool(np.abs(block).max() <= _LOUDEST)
    return _tried[key]


def _word() -> str:
    """Return what a person has to type for the ffmpeg that was tried."""
    path = ffmpeg.program()
    return "ffmpeg" if path is None or path == shutil.which("ffmpeg") else shown(path)
