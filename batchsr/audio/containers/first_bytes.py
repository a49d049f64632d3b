"""Name what is no sound file, or none that is read here, by its first bytes: a web page, an archive, a picture."""

from __future__ import annotations

from typing import Final

from batchsr.audio import formats

_PAGE: Final = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<script")
_FILES: Final = (
    (b"PK\x03\x04", "a ZIP archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"),
    (b"\x1f\x8b\x08", "a gzip archive", "unpack it"),
    (b"BZh", "a bzip2 archive", "unpack it"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it"),
    (b"%PDF", "a PDF document", ""),
    (b"\x89PNG", "a picture", ""),
    (b"\xff\xd8\xff", "a picture", ""),
    (b"GIF8", "a picture", ""),
    (b"II*\0", "a picture", ""),
    (b"MM\0*", "a picture", ""),
    (b"{\\rtf", "a text document", ""),
    (b"\xd0\xcf\x11\xe0", "an Office document", ""),
    (b"MThd", "a MIDI file: notes, no sound", "render it with a synthesiser, such as fluidsynth"),
    (b"\0\5\x16\7", "what macOS leaves beside a file on other systems' disks", "leave it; the recording is beside it"),
    (b"SQLite format 3\0", "a database", ""),
    (b"\x7fELF", "a program", ""),
    (b"MZ\x90\0", "a program", ""),
)
_STREAMS: Final = (
    b"\0\0\1\xba",
    b"FLV\1",
    b"\x7f\xfe\x80\1",
    b"VQF1",
    b"TWIN",
    b"\x06\x0e\x2b\x34",
    b"nut/multimedia container",
    b".SoX",
    b"XoS.",
)
_AC3_KBITS: Final = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
_AC3_RATES_HZ: Final = (48_000, 44_100, 32_000)
_TEXT_BYTES: Final = 16


def named(head: bytes) -> tuple[str, str]:
    """Return what a file is that is no sound, and what to do with it; ("", "") where nothing is known of it."""
    for magic, name, remedy in _FILES:
        if head.startswith(magic):
            return name, remedy or "find the recording it stands for"
    start = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(_PAGE):
        remedy = "download it again: what came is a page, as a login or an error message"
        return ("a web page" if not start.startswith(b"<?xml") else "an XML document"), remedy
    return ("a text", "find the recording it stands for") if is_text(head) else ("", "")


def format_of(head: bytes) -> formats.Format | None:
    """Return the format of sound files whose first bytes these surely are: two letters may stand anywhere."""
    found = formats.by_magic(head)
    sure = found is not None and any(len(word) >= 4 and head[at : at + len(word)] == word for at, word in found.magic)
    return found if sure else None


def is_for_ffmpeg(head: bytes, extension: str) -> bool:
    """Return whether ffmpeg is to be asked to decode a file: its first bytes, or its extension where they are of no
    kind."""
    form = formats.by_magic(head)
    if form is not None and format_of(head) is form:
        return form.reader == "ffmpeg" or (form.reader == "libsndfile" and head[28:36] == b"Speex   ")
    hint = formats.BY_EXTENSION.get(extension.lower())
    if hint is not None and hint.options:
        return False  # whatever bytes it begins with, they are samples
    if head[:1] == b"\xff" and head[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"):
        return True  # AAC in ADTS frames
    if _frames_follow(head):
        return True
    if head.startswith(_STREAMS) or (head[:1] == b"G" == head[188:189] == head[376:377]):
        return True
    return hint is not None and hint.reader == "ffmpeg" and not named(head)[0]


def frame_length(head: bytes) -> int:
    """Return the bytes of the frame of AC-3, E-AC-3, DTS, or AAC in ADTS or LOAS that begins there; 0 where none does.

    Sources: ETSI TS 102 366 (syncinfo, Annex E), ETSI TS 102 114 (core frame header), ISO/IEC 14496-3 (AudioSyncStream,
    adts_frame).
    """
    if len(head) < 8:
        return 0
    if head[0] == 0x56 and head[1] & 0xE0 == 0xE0:
        return 3 + ((head[1] & 0x1F) << 8 | head[2])
    if head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        return length if length > 7 else 0
    if head[:4] == b"\x7f\xfe\x80\x01":
        return ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1
    code, size = head[4] >> 6, head[4] & 63
    if head[:2] != b"\x0b\x77" or head[5] >> 3 > 16:
        return 0
    if head[5] >> 3 > 10:
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    if code < len(_AC3_RATES_HZ) and size < 2 * len(_AC3_KBITS):
        return 2 * (_AC3_KBITS[size >> 1] * 96_000 // _AC3_RATES_HZ[code] + (size & 1 if code == 1 else 0))
    return 0


def _frames_follow(head: bytes) -> bool:
    """Return whether a frame stands there, and another of its kind right behind it."""
    length = frame_length(head)
    behind = head[length : length + 2]
    same = behind[:1] == head[:1] and len(behind) == 2 and (behind[1] ^ head[1]) & 0xE0 == 0
    return bool(length) and same


def is_text(head: bytes) -> bool:
    """Return whether bytes are something to be read: nearly all of them letters, blanks and line ends."""
    readable = sum(32 <= c < 127 or c in (9, 10, 13) for c in head)
    return len(head) >= _TEXT_BYTES and readable >= 0.97 * len(head)
