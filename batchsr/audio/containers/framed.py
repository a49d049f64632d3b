"""Where files begin that were joined, and whether a stream of frames ends inside one, in what ffmpeg decodes.

ffmpeg reads the first of several joined files and stops there without a word, and it leaves out a last frame that is
cut. The frames, blocks and boxes say their own lengths, so walking over them tells both.

Sources: WavPack 4 & 5 binary file format (block header), TTA1 format specification (header, seek table), DSF file
format specification (DSD chunk), RFC 4867 section 5 (AMR storage format), ISO/IEC 14496-12 (boxes), ISO/IEC 14496-3
(ADTS, AudioSyncStream), ETSI TS 102 366 (syncinfo, Annex E), Advanced Systems Format specification (file properties).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from batchsr.audio.containers import asf, first_bytes, mp4
from batchsr.audio.containers.bytes_at import BytesAt

MAX_PARTS: Final = 250
_SEARCH_BYTES: Final = 1 << 16
_TAIL_BYTES: Final = 1 << 18
_FOLLOWING: Final = 4
"""So many frames one behind another are no accident."""
_INITIAL_BLOCK: Final = 0x800
_AMR_NB: Final = (12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0)
_AMR_WB: Final = (17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0)
_AMR: Final = ((b"#!AMR\n", _AMR_NB), (b"#!AMR-WB\n", _AMR_WB))


class Stretch:
    """A stretch of a file, read as if it were one: the bytes from `start` up to `end`."""

    def __init__(self, file: BytesAt, start: int, end: int) -> None:
        self._file, self._start, self.size = file, start, end - start

    def at(self, start: int, length: int) -> bytes:
        """Return the bytes there are, at most `length`."""
        return self._file.at(self._start + start, min(length, self.size - start)) if start >= 0 else b""


def joined(file: BytesAt) -> tuple[tuple[int, int], ...]:
    """Return (start, end) in bytes of each of the files that were joined to this one; () where it is a single file.

    No more than MAX_PARTS + 1 are looked for. Raises OSError when the file cannot be read.
    """
    starts = list(itertools.islice(_starts(file), MAX_PARTS + 1))
    if len(starts) < 2:
        return ()
    return tuple(zip(starts, [*starts[1:], file.size], strict=True))


Length = Callable[[int], int]
"""How many bytes the unit takes that begins at a place."""


def end(file: BytesAt) -> int | None:
    """Return where the frames or blocks that stand from the beginning on end; None where none are walked.

    It is for WavPack, AMR, True Audio, DSF, and AAC, AC-3, E-AC-3 and DTS without a container. Raises OSError when the
    file cannot be read.
    """
    head = file.at(0, 32)
    if head[:4] == b"wvpk":
        at = 0
        while (block := file.at(at, 8))[:4] == b"wvpk" and len(block) == 8:
            at += max(int.from_bytes(block[4:8], "little") + 8, 32)
        return at
    for magic, sizes in _AMR:
        if head.startswith(magic):
            last = _last(file, len(magic), functools.partial(_amr_length, sizes=sizes))
            return last[1] if last else len(magic)
    if head[:4] == b"TTA1":
        return _tta_end(file, 0)
    if head[:4] == b"DSD ":
        return int.from_bytes(head[12:20], "little")
    last = _last(file, 0, first_bytes.frame_length) if first_bytes.frame_length(head) else None
    return last[1] if last else None


def last_frame(file: asf.Bytes) -> tuple[int, int] | None:
    """Return where the last frame begins and where it ends by what it says; None where no frames are walked.

    It ends behind the file where it is cut, and before the file's end where a tag follows. It is for AAC in ADTS or
    LOAS frames, AC-3, E-AC-3, DTS and AMR. Raises OSError when the file cannot be read.
    """
    head = file.at(0, 16)
    for magic, sizes in _AMR:
        if head.startswith(magic):
            return _last(file, len(magic), functools.partial(_amr_length, sizes=sizes))
    if not first_bytes.frame_length(head) and not head.startswith(b"ID3"):
        return None
    at: int | None = _next_frame(file, max(file.size - _TAIL_BYTES, 0))
    last = None
    while at is not None:
        last = _last(file, at, first_bytes.frame_length)
        at = _next_frame(file, last[1]) if last else None
    return last


def _next_frame(file: asf.Bytes, start: int) -> int | None:
    """Return where frames begin to follow one another, not far behind a place."""
    block = file.at(start, _SEARCH_BYTES + 8)
    for i in range(len(block) - 7):
        if first_bytes.frame_length(block[i : i + 8]) and _follow(file, start + i):
            return start + i
    return None


def _follow(file: asf.Bytes, at: int) -> bool:
    """Return whether frames stand there one behind another."""
    for _ in range(_FOLLOWING):
        if at >= file.size:
            return False
        if not (length := first_bytes.frame_length(file.at(at, 8))):
            return False
        at += length
    return True


def _last(file: asf.Bytes, at: int, length_of: Callable[[bytes], int]) -> tuple[int, int] | None:
    last = None
    while at < file.size and (length := length_of(file.at(at, 8))):
        last = at, at + length
        at += length
    return last


def _amr_length(frame: bytes, sizes: tuple[int, ...]) -> int:
    """Return how long a frame of AMR is; 0 where none stands: its spare bits are not 0."""
    return 1 + sizes[frame[0] >> 3 & 15] if frame and not frame[0] & 0x83 else 0


def _starts(file: BytesAt) -> Iterator[int]:
    head = file.at(0, 16)
    if head[:4] == b"wvpk":
        return _wavpack(file)
    for magic, sizes in _AMR:
        if head.startswith(magic):
            return _amr(file, magic, sizes)
    if head[:4] == b"TTA1":
        return _by_end(file, b"TTA1", _tta_end)
    if head[:4] == b"DSD ":
        return _by_end(file, b"DSD ", lambda f, at: at + int.from_bytes(f.at(at + 12, 8), "little"))
    if head.startswith(asf.MAGIC):
        return _by_end(file, asf.MAGIC, lambda f, at: at + (asf.size(Stretch(f, at, f.size)) or f.size))
    if head[4:8] in mp4.FIRST:
        return _mp4(file)
    if first_bytes.frame_length(head):
        return _streams(file)
    return iter(())


def _streams(file: BytesAt) -> Iterator[int]:
    """Yield where frames of another codec begin another stream, of which ffmpeg would read nothing."""
    at, codec = 0, file.at(0, 1)
    yield 0
    while at < file.size:
        length = first_bytes.frame_length(file.at(at, 8))
        if length and file.at(at, 1) == codec:
            at += length
            continue
        following = _next_frame(file, at)
        if following is None:
            return
        at = following
        if (first := file.at(at, 1)) != codec:
            codec = first
            yield at


def _by_end(file: BytesAt, magic: bytes, end_of: Callable[[BytesAt, int], int]) -> Iterator[int]:
    """Yield where files begin whose headers say where they end; tags may stand between them."""
    at: int | None = 0
    while at is not None:
        yield at
        end = end_of(file, at)
        at = _found(file, magic, end) if end > at else None


def _found(file: BytesAt, word: bytes, start: int) -> int | None:
    """Return where a word stands next."""
    while start < file.size:
        block = file.at(start, _SEARCH_BYTES)
        if (at := block.find(word)) >= 0:
            return start + at
        if len(block) < _SEARCH_BYTES:
            return None
        start += len(block) - len(word) + 1
    return None


def _wavpack(file: BytesAt) -> Iterator[int]:
    """Yield where another file begins: at a block of a lower number than the one before, also the block 0
    behind a block 0."""
    at: int | None = 0
    before = -1
    while at is not None:
        block = file.at(at, 32)
        length = int.from_bytes(block[4:8], "little") + 8
        if block[:4] != b"wvpk" or len(block) < 32 or not 32 <= length <= 1 << 24 or block[9] != 4:
            at = _found(file, b"wvpk", at + 1)
            continue
        samples, flags = int.from_bytes(block[20:24], "little"), int.from_bytes(block[24:28], "little")
        if samples and flags & _INITIAL_BLOCK:
            number = int.from_bytes(block[16:20], "little") | block[10] << 32
            if number <= before or before < 0:
                yield at
            before = number
        at += length


def _amr(file: BytesAt, magic: bytes, sizes: tuple[int, ...]) -> Iterator[int]:
    at = 0
    while at < file.size:
        if file.at(at, len(magic)) == magic:
            yield at
            at += len(magic)
        elif length := _amr_length(file.at(at, 1), sizes):
            at += length
        else:
            return


def _tta_end(file: BytesAt, at: int) -> int:
    head = file.at(at, 22)
    rate_hz, samples = int.from_bytes(head[10:14], "little"), int.from_bytes(head[14:18], "little")
    if len(head) < 22 or not rate_hz:
        return file.size
    frames = -(-samples // (256 * rate_hz // 245 or 1))
    table = file.at(at + 22, 4 * frames)
    return at + 22 + 4 * frames + 4 + sum(int.from_bytes(table[i : i + 4], "little") for i in range(0, len(table), 4))


def _mp4(file: BytesAt) -> Iterator[int]:
    """Yield where another file begins: at an `ftyp` behind a `moov`."""
    at, index = 0, False
    yield 0
    while at < file.size:
        box = file.at(at, 16)
        length, name = int.from_bytes(box[:4], "big"), box[4:8]
        if length == 1:
            length = int.from_bytes(box[8:16], "big")
        if name == b"ftyp" and index:
            yield at
            index = False
        index = index or name == b"moov"
        if length < 8:
            return
        at += length
