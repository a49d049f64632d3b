"""What stands behind the end that a header claims: more audio, or something else.

A recorder that lost power wrote its length long before the end, and the samples go on. But behind the audio there are
also tags, other files, texts, and zeros that filled up a block of the disk; none of that may be heard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Final

from batchsr.audio import formats
from batchsr.audio.containers import first_bytes, frame_rows
from batchsr.audio.containers.bytes_at import BytesAt

FindChunks = Callable[[int, int], int | None]
"""Where chunks begin that fill the stretch (start, end) to its end; None where there are none."""
_BLOCK_BYTES: Final = 1 << 20
_TEXT_BYTES: Final = 4096
_QUIET_BYTES: Final = 256
_STRAY_BYTES: Final = 8
"""Less than this is no chunk, and nobody hears it."""
_APE_HEAD_BYTES: Final = 32
_WRAP_BYTES: Final = 1 << 32
"""By how much a length of 32 bits is wrong that counted beyond its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rest:
    """What the bytes behind an end are."""

    audio_end: int | None = None
    """Where the audio ends that goes on there; None where it does not."""
    left_out: str = ""
    """What else it is, for a person; "" for tags and zeros, which nobody misses."""


def judge(file: BytesAt, start: int, find_chunks: FindChunks = lambda start, end: None) -> Rest:
    """Say what stands from `start` to the end of the file, chunks having been ruled out at `start` itself."""
    begin = start
    end = without_tags(file, start)
    start = min(behind_tags(file, start), end)
    if end - start < _STRAY_BYTES or is_zero(file, start, end):
        return Rest()
    head = file.at(start, min(_TEXT_BYTES, end - start))
    form = first_bytes.format_of(head)
    if form is None and start != begin and head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        form = formats.BY_EXTENSION[".mp3"]
    if form is None and (row := frame_rows.kind_at(file, start)):
        form = formats.BY_EXTENSION[row]
    other = f"a file of the format {form.title}" if form is not None else first_bytes.named(head)[0]
    if other and (form is not None or not _is_silence_of_8_bits(head)):
        return Rest(left_out=f"{end - start:,} bytes behind its audio ({other})")
    return Rest(audio_end=audio_end(file, start, find_chunks))


def _is_silence_of_8_bits(head: bytes) -> bool:
    """Return whether it is no text, though all are letters: quiet samples of 8 bits stand just below 128, without
    blanks."""
    return len(head) >= _QUIET_BYTES and not any(blank in head for blank in (b" ", b"\t", b"\n", b"\r"))


def wrapped_end(file: BytesAt, claimed_end: int) -> int | None:
    """Return where audio ends whose length lost multiples of 4 GB; None where the file's own length shows no such loss.

    It does where what is behind the claimed end is such a multiple long, less tags and a few bytes of padding. Then
    all of it is audio, whatever stands in it: silence as well.
    """
    for end in (file.size, without_tags(file, claimed_end)):
        wraps, stray = divmod(end - claimed_end, _WRAP_BYTES)
        if wraps > 0 and stray < _STRAY_BYTES:
            return end - stray
    return None


def nothing_there(file: BytesAt, start: int) -> str:
    """Return what is to be said of a file whose audio is zero bytes long and begins at `start`; "" for the usual."""
    end = without_tags(file, start)
    if end - start < _STRAY_BYTES or not is_zero(file, start, end):
        return ""
    kind = "zeros" if file.at(start, 1) == b"\0" else "ones, as erased memory holds them,"
    return f"its header says a length of zero, and {end - start:,} bytes of nothing but {kind} stand behind it"


def audio_end(file: BytesAt, start: int, find_chunks: FindChunks = lambda start, end: None) -> int:
    """Return where audio ends that begins at `start` and whose length is not known: before tags and chunks."""
    end = without_tags(file, start)
    chunks = find_chunks(start, end)
    return end if chunks is None else chunks


def without_tags(file: BytesAt, start: int) -> int:
    """Return the file's end less the tags that players and editors put there: ID3v1, Lyrics3, APE."""
    end = file.size
    for _ in range(8):
        before = end
        if end - start >= 128 and file.at(end - 128, 3) == b"TAG":
            end -= 128
        tail = file.at(max(end - 15, start), min(15, max(end - start, 0)))
        if tail.endswith(b"LYRICS200") and tail[:6].isdigit():
            end = max(end - int(tail[:6]) - 15, start)
        tail = file.at(max(end - _APE_HEAD_BYTES, start), _APE_HEAD_BYTES)
        if tail[:8] == b"APETAGEX" and len(tail) == _APE_HEAD_BYTES:
            length = int.from_bytes(tail[12:16], "little") + (_APE_HEAD_BYTES if tail[23] & 0x80 else 0)
            end = end - length if length <= end - start else end
        if end == before:
            break
    return end


def behind_tags(file: BytesAt, start: int) -> int:
    """Return where something else begins behind the tags that stand at `start`."""
    for _ in range(8):
        head = file.at(start, _APE_HEAD_BYTES)
        if head[:3] == b"TAG" and b"\0" in file.at(start, 128):
            start += 128
        elif head[:3] == b"ID3" and len(head) >= 10 and all(c < 128 for c in head[6:10]):
            start += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        elif head[:8] == b"APETAGEX" and len(head) == _APE_HEAD_BYTES:
            start += _APE_HEAD_BYTES + int.from_bytes(head[12:16], "little")
        else:
            break
    return start


def is_zero(file: BytesAt, start: int, end: int) -> bool:
    """Return whether nothing but zeros stands there, or nothing but the ones of erased flash; reads up to
    another byte."""
    fill = file.at(start, 1)
    if fill not in (b"\0", b"\xff"):
        return start >= end
    while start < end:
        block = file.at(start, min(_BLOCK_BYTES, end - start))
        if not block or block.count(fill) != len(block):
            return not block
        start += len(block)
    return True


def finds(text: bytes, word: bytes) -> Iterator[int]:
    """Yield each place of `word`."""
    position = text.find(word)
    while position >= 0:
        yield position
        position = text.find(word, position + 1)
