"""How sound files of all kinds begin, by words that are no accident in coded sound, and where such words stand.

Sources: the formats' own descriptions, named in the modules that read them; Matroska (RFC 9559) and EBML (RFC 8794);
Monkey's Audio SDK (descriptor); Musepack SV8 (packets); DSDIFF 1.5 (form chunk); FLV 10.1 (tags); SoX (header).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from batchsr.audio.containers import asf
from batchsr.audio.containers.bytes_at import BytesAt

BLOCK_BYTES: Final = 1 << 22
LONGEST_WORD: Final = 64
_WORDS: Final[dict[str, tuple[tuple[bytes, ...], bytes]]] = {
    "WAV": ((b"RIFF", b"RIFX", b"RF64", b"BW64"), rb".{4}WAVE"),
    "AVI": ((b"RIFF",), rb".{4}AVI LIST"),
    "QCP": ((b"RIFF",), rb".{4}QLCMfmt "),
    "W64": ((b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",), b""),
    "AIFF": ((b"FORM",), rb".{4}(?:AIF[FC]|8SVX|16SV)"),
    "CAF": ((b"caff\x00\x01\x00\x00desc",), b""),
    "AU": ((b".snd\x00\x00",), rb"[\x00-\x0f].{5}\x00\x00\x00[\x01-\x1b]\x00[\x00-\x0b]"),
    "NIST": ((b"NIST_1A\n",), b""),
    "VOC": ((b"Creative Voice File\x1a",), b""),
    "FLAC": ((b"fLaC",), rb"[\x00\x80]\x00\x00\x22"),
    "OGG": ((b"OggS\x00",), rb"[\x02\x06]\x00{8}"),
    "ASF": ((asf.MAGIC,), b""),
    "MKA": ((b"\x1a\x45\xdf\xa3",), rb".{0,48}?\x42\x82.(?:webm|matroska)"),
    "MP4": ((b"\x00\x00\x00",), rb"[\x08-\xff]ftyp[0-9A-Za-z]{3}"),
    "FLV": ((b"FLV\x01",), rb"[\x01\x04\x05]\x00\x00\x00\x09"),
    "NUT": ((b"nut/multimedia container\x00",), b""),
    "SOX": ((b".SoX",), rb"..\x00\x00"),
    "XOS": ((b"XoS.\x00",), rb".\x00\x00"),
    "MPC": ((b"MPCKSH",), b""),
    "APE": ((b"MAC ",), rb".\x0f\x00\x00\x34\x00\x00\x00"),
    "TTA": ((b"TTA1",), rb"[\x01\x02]\x00[\x01-\x20]\x00[\x08\x10\x18\x20]\x00"),
    "TAK": ((b"tBaK\x01",), rb".\x00\x00"),
    "WV": ((b"wvpk",), rb"...\x00[\x02-\x10]\x04"),
    "DSF": ((b"DSD \x1c",), rb"\x00{7}"),
    "DFF": ((b"FRM8\x00",), rb".{7}DSD "),
    "AMR": ((b"#!AMR",), rb"(?:-WB)?\n"),
    "RM": ((b".RMF\x00\x00\x00\x12",), b""),
    "RA": ((b".ra\xfd\x00",), b"[\x03\x04\x05]"),
}
"""By kind, how its files begin: the letters, and what goes on behind them."""
_ANY: Final = re.compile(
    b"|".join(
        b"(?P<%s>(?:%s)%s)" % (key.encode(), b"|".join(map(re.escape, words)), more)
        for key, (words, more) in _WORDS.items()
    ),
    re.DOTALL,
)
_FTYP: Final = int.from_bytes(b"ft", "little")
_FTYP_AT: Final = 4
_MAY_BEGIN: Final = np.zeros(1 << 16, bool)
"""Of each two letters, by their number in little endian, whether a word begins with them; but MP4's are too common."""
_MAY_BEGIN[[int.from_bytes(w[:2], "little") for words, _ in _WORDS.values() for w in words if w[:2] != b"\0\0"]] = True


def kind_of(head: bytes) -> str:
    """Return the kind of file whose first LONGEST_WORD bytes these are; "" for none that is known by a word."""
    match = _ANY.match(head)
    return match.lastgroup or "" if match else ""


def words(file: BytesAt, start: int, stop: int) -> Iterator[tuple[int, str]]:
    """Yield (where, kind) of the words that begin between two places."""
    while start < stop:
        length = min(BLOCK_BYTES, stop - start)
        block = file.at(start, length + LONGEST_WORD)
        octets = np.frombuffer(block, np.uint8)
        twos = octets[:-1] | octets[1:].astype(np.uint16) << 8
        may_begin = _MAY_BEGIN[twos[:length]]
        behind = twos[_FTYP_AT : length + _FTYP_AT] == _FTYP
        may_begin[: len(behind)] |= behind[: len(may_begin)]
        for at in np.flatnonzero(may_begin).tolist():
            if (match := _ANY.match(block, at)) is not None:
                yield start + at, match.lastgroup or ""
        start += length
