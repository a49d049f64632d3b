"""Sound by a job's number: the recording and its restoration, whole or in ranges, never by a path."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from starlette.responses import Response, StreamingResponse

from batchsr.audio.formats import BY_EXTENSION
from batchsr.errors import InputChanged, InputMissing
from batchsr.queue import Job, State
from batchsr.remote.address import is_url

Side = Literal["source", "output"]
_BLOCK_BYTES: Final = 64 * 1024
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def opened(job: Job, side: Side) -> int:
    """Return an open descriptor of a file of a job.

    Only a regular file is opened that is still the one of which the queue knows the size, and of a recording the time
    of its last change: whatever else was put under its name meanwhile is not. Raises InputMissing, InputChanged.
    """
    name = job.source if side == "source" else job.output
    if side == "output" and job.state is not State.DONE:
        raise InputMissing(f"#{job.id} is not restored yet")
    if is_url(name):
        raise InputMissing(f"the {side} of #{job.id} is in a store, and not on this machine")
    try:
        # Without waiting for anybody at the other end, should it be a pipe.
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as e:
        raise InputMissing(f"the {side} of #{job.id} is not there, or cannot be read") from e
    status = os.fstat(fd)
    known = status.st_size == (job.size_bytes if side == "source" else job.output_bytes)
    if side == "source" and job.mtime_ns is not None:
        known &= status.st_mtime_ns == job.mtime_ns
    if not stat.S_ISREG(status.st_mode) or not known:
        os.close(fd)
        raise InputChanged(f"the {side} of #{job.id} is no longer the file that the queue knows")
    return fd


def answer(job: Job, side: Side, asked: str | None) -> Response:
    """Answer with a file of a job. `asked` is the request's Range header. Raises InputMissing, InputChanged."""
    fd = opened(job, side)
    size = os.fstat(fd).st_size
    ending = Path(job.source if side == "source" else job.output).suffix.lower()
    mime = BY_EXTENSION[ending].mime if ending in BY_EXTENSION else ""
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": mime or "application/octet-stream",
        "Content-Disposition": f'inline; filename="{job.id}-{side}{ending if mime else ""}"',
    }
    return span_answer(_Blocks(fd), size, asked, headers)


def span_answer(blocks: _Blocks | bytes, size: int, asked: str | None, headers: dict[str, str]) -> Response:
    """Answer with the bytes that are asked for; `headers` are those of the whole."""
    first, last, code = _span(asked, size)
    if code == 416:
        if not isinstance(blocks, bytes):
            blocks.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    if code == 206:
        headers = {**headers, "Content-Range": f"bytes {first}-{last}/{size}"}
    if isinstance(blocks, bytes):
        return Response(blocks[first : last + 1], code, headers)
    blocks.narrow(first, last + 1)
    return StreamingResponse(blocks, code, {**headers, "Content-Length": str(last - first + 1)})


def _span(asked: str | None, size: int) -> tuple[int, int, int]:
    """Return the first and the last byte, and the status: 200 for the whole, 206 for a part, 416 for what is not."""
    match = _RANGE.fullmatch(asked.strip()) if asked else None
    if match is None or match[0] == "bytes=-":
        return 0, size - 1, 200  # several ranges, or none that is understood: the whole, as RFC 9110 allows
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size - 1, 206) if length else (0, -1, 416)
    first, last = int(match[1]), min(int(match[2] or size), size - 1)
    return (first, last, 206) if first <= last else (0, -1, 416)


class _Blocks:
    """A span of an open file, in blocks; the file is closed at its end or with whoever read it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = self._end = 0

    def narrow(self, first: int, end: int) -> None:
        """Give the bytes from `first` to before `end`."""
        self._at, self._end = first, end

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = os.pread(self._fd, min(_BLOCK_BYTES, self._end - self._at), self._at) if self._fd >= 0 else b""
        if not block:
            self.close()
            raise StopIteration
        self._at += len(block)
        return block

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()
