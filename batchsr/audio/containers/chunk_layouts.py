"""How the families of formats that are lists of chunks write a chunk down, and which names they know.

Sources: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), Wave64 (Sony/VCS), IFF 85 (Electronic Arts), CAF
(Apple).
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

CHAIN_CHUNKS: Final = 16
"""So many chunks behind each other are no chance."""
_RIFF_NAMES: Final = frozenset(
    b"fmt |data|fact|LIST|JUNK|junk|PAD |FLLR|bext|iXML|axml|aXML|cue |smpl|inst|ID3 |id3 |chna|umid|ubxt|levl|acid"
    b"|afsp|PEAK|DISP|strc|plst|minf|elm1|regn|ovwf|_PMX|cart|mext|qlty|slnt|wavl|r64m|MD5 |filr|bmd |link|clm |CSET"
    b"|SyLp|Cr8r|SAUR|SNDM|IDIT|note|labl|ltxt|dlst|SGUI|UMID|Fake|fake".split(b"|")
)
_IFF_NAMES: Final = frozenset(
    b"COMM|SSND|FVER|MARK|INST|MIDI|AESD|APPL|COMT|NAME|AUTH|(c) |ANNO|ID3 |PEAK|CHAN|basc|trns|cate|VHDR|BODY|ATAK"
    b"|RLSE|SEQN|FADE|SAXL|LGWV|FLLR|JUNK".split(b"|")
)
_CAF_NAMES: Final = frozenset(
    b"desc|data|info|free|pakt|kuki|chan|peak|mark|regn|strg|inst|midi|ovvw|umid|uuid|edct".split(b"|")
)
_W64_TAILS: Final = (bytes.fromhex("00c04f8edb8a"), bytes.fromhex("91cf11a5d628db04c10000"))


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How the chunks of a family of formats are written down."""

    head_bytes: int
    length_at: int
    length_format: str
    """Format of the length in a chunk's head, as `struct` writes it."""
    audio: bytes
    """Name of the chunk that holds the samples."""
    names: frozenset[bytes]
    """Chunks that are known to occur."""
    audio_head_bytes: int = 0
    """What stands in that chunk before the samples."""
    counts_head: bool = False
    """Whether a length counts the chunk's head as well."""
    align: int = 2
    """Chunks begin at multiples of this, counted from the file's start."""
    unknown: int | None = None
    """The length that says that the writer does not know it."""
    tails: tuple[bytes, ...] = ()
    """What the names of chunks may end with where they have 16 bytes."""


RIFF: Final = Layout(8, 4, "<I", b"data", _RIFF_NAMES, unknown=0xFFFFFFFF)
RIFX: Final = dataclasses.replace(RIFF, length_format=">I")
W64: Final = Layout(24, 16, "<Q", b"data", _RIFF_NAMES, counts_head=True, align=8, tails=_W64_TAILS)
AIFF: Final = Layout(8, 4, ">I", b"SSND", _IFF_NAMES, audio_head_bytes=8, unknown=0xFFFFFFFF)
SVX: Final = dataclasses.replace(AIFF, audio=b"BODY", audio_head_bytes=0)
CAF: Final = Layout(12, 4, ">q", b"data", _CAF_NAMES, audio_head_bytes=4, align=1, unknown=-1)


def fills(tail: memoryview, layout: Layout, place: int) -> bool:
    """Return whether chunks follow each other from the start of `tail` to its end, give or take a pad byte."""
    position = 0
    for _ in range(CHAIN_CHUNKS):
        head = bytes(tail[position : position + layout.head_bytes])
        if len(head) < layout.head_bytes:
            return position > 0 and len(head) <= 1
        if not is_name(layout, head):
            return False
        (length,) = struct.unpack_from(layout.length_format, head, layout.length_at)
        length -= layout.head_bytes if layout.counts_head else 0
        end = position + layout.head_bytes + length
        if length < 0 or end > len(tail):
            return False
        padded = end + (length & 1) if layout.align == 2 else -(-(place + end) // layout.align) * layout.align - place
        position = end if bytes(tail[end : end + 4]) in layout.names and padded != end else padded
        if position >= len(tail):
            return True
    return True


def is_name(layout: Layout, head: bytes) -> bool:
    """Return whether a chunk's head begins with a name."""
    if len(head) < layout.head_bytes:
        return False
    if layout.tails and head[:4] not in layout.names:
        return any(head[:16].endswith(tail) for tail in layout.tails)
    return head[:4] in layout.names or all(32 <= c < 127 for c in head[:4])
