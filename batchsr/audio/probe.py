"""Decide, without decoding it, whether a path is a recording that can be restored, and say what it is."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from pathlib import Path
from typing import Final

from batchsr.audio import formats
from batchsr.audio.containers import headers
from batchsr.audio.decoders.interface import DecodeError, Decoder
from batchsr.audio.decoders.libsndfile import LibsndfileDecoder
from batchsr.audio.decoders.opening import open_pieces
from batchsr.audio.remarks import Remark, bounded
from batchsr.audio.windows import SAMPLE_RATE_HZ
from batchsr.display import shown as shown
from batchsr.errors import (
    InputEmpty,
    InputError,
    InputFormat,
    InputLimits,
    InputMissing,
    InputNotRegular,
    InputTruncated,
    InputUnreadable,
)

RATE_LIMITS_HZ: Final = (1_000, 768_000)
CHANNELS_LIMIT: Final = 64

# WAVE formats that libsndfile knows: where it refuses one of these, its own words say more.
_PLAIN_TAGS: Final = (0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0031, 0xFFFE)


@dataclasses.dataclass(frozen=True, slots=True)
class SourceInfo:
    """A recording as it was when it was looked at."""

    path: Path
    frames: int
    """Samples of one channel, at least 1."""
    sample_rate: int
    """Hz."""
    channels: int
    format: str
    """libsndfile's name of the container: "WAV", "WAVEX", "FLAC"..."""
    subtype: str
    """libsndfile's name of the sample format: "PCM_16", "ULAW", "VORBIS"..."""
    size_bytes: int
    mtime_ns: int
    inode: int
    device: int
    ctime_ns: int = 0
    """When anything about the file was changed last; no program can set it."""
    remarks: tuple[Remark, ...] = ()
    """What is odd about the file, and does not keep it from being restored."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def output_samples(self) -> int:
        """Length of one channel at 48 kHz: `frames * 48000 / sample_rate`, rounded up."""
        return -(-self.frames * SAMPLE_RATE_HZ // self.sample_rate)


def probe(path: Path) -> SourceInfo:
    """What stands under `path`.

    Never blocks on a FIFO, a device or a socket, and leaves the file as it is (also its access time, where the
    system lets us). Raises an InputError that names the file and the remedy.
    """
    fd, status = open_regular(path)
    try:
        return probe_open(path, fd, status)
    finally:
        os.close(fd)


def fits_header(path: Path) -> bool:
    """Whether the file is as long as its header says; cheap, for a file that may still be growing.

    True also where the header does not tell, and for what is no audio at all: `probe` has the last word. False
    for ever for a file that was cut, so a caller that waits on this needs a limit. Raises an InputError when
    the path cannot be opened.
    """
    fd, status = open_regular(path)
    try:
        header = headers.inspect(fd, status.st_size)
        if status.st_size == 0 or header.trouble in ("cut", "unpatched"):
            return False
        return header.container != "FLAC" or header.trouble is not None or _ends_well(fd, header)
    except OSError as e:
        raise InputUnreadable(f"{shown(path)} cannot be read: {e.strerror}", remedy="check the disk") from e
    finally:
        os.close(fd)


def open_regular(path: Path) -> tuple[int, os.stat_result]:
    """Open a regular file for reading: (file descriptor, its status). Raises an InputError for anything else.

    The look before the opening keeps tape drives and FIFOs untouched, O_NONBLOCK a FIFO that slips in between.
    """
    name = shown(path)
    try:
        _want_regular(name, os.stat(path))
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as e:  # a NUL in the name
        raise InputMissing(f"{name} is no possible file name") from e
    except OSError as e:
        raise _opening_error(path, name, e) from e
    try:
        status = os.fstat(fd)
        _want_regular(name, status)
    except BaseException:
        os.close(fd)
        raise
    return fd, status


def _want_regular(name: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kinds = {
        stat.S_IFDIR: ("a folder", "enqueue a folder with -r, or name the recordings in it"),
        stat.S_IFIFO: ("a pipe", "write it to a file first"),
        stat.S_IFSOCK: ("a socket", "write what it carries to a file first"),
    }
    kind, remedy = kinds.get(stat.S_IFMT(status.st_mode), ("a device", "record to a file first"))
    raise InputNotRegular(f"{name} is {kind}, not a file", remedy=remedy)


def _opening_error(path: Path, name: str, e: OSError) -> InputError:
    if e.errno == errno.ELOOP:
        return InputMissing(f"{name} is a symbolic link that leads in a circle", remedy="mend the link")
    if e.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            target = shown(os.readlink(path))
            return InputMissing(f"{name} is a symbolic link to {target}, which is not there", remedy="mend the link")
        return InputMissing(f"{name} is not there", remedy="check the name, or whether its disk is mounted")
    if e.errno == errno.ENAMETOOLONG:
        return InputMissing(f"{name} is longer than a file name can be")
    if e.errno in (errno.EACCES, errno.EPERM):
        return InputUnreadable(f"{name} may not be read by this user", remedy=f"chmod u+r {name}, or run as its owner")
    return InputUnreadable(f"{name} cannot be opened: {e.strerror}", remedy="check the disk, or the share it is on")


def probe_open(path: Path, fd: int, status: os.stat_result) -> SourceInfo:
    """`probe` for a file that is open. The file's position is anywhere afterwards."""
    return examine(path, fd, status)[0]


def examine(path: Path, fd: int, status: os.stat_result) -> tuple[SourceInfo, headers.Header]:
    """`probe_open`, with what the walk over the header found: `open_decoder` takes it."""
    name = shown(path)
    if status.st_size == 0:
        raise InputEmpty(f"{name} is empty: 0 bytes", remedy="copy it again from where it came")
    try:
        header = headers.inspect(fd, status.st_size)
    except OSError as e:
        raise InputUnreadable(f"{name} cannot be read: {e.strerror}", remedy="check the disk") from e
    if header.trouble == "mangled":
        raise InputFormat(f"{name} cannot be decoded: {header.detail}", remedy="copy it again from where it came")
    if header.data_start and header.container != "FLAC":
        _check_limits(name, header.rate_hz, header.channels)
    try:
        with contextlib.closing(open_decoder(fd, header)) as decoder:
            frames, rate_hz, channels = decoder.frames, decoder.sample_rate, decoder.channels
            form, subtype = decoder.format, decoder.subtype
    except DecodeError as e:
        raise _decoder_error(path, name, header, e) from e
    _check_limits(name, rate_hz, channels)
    _check_length(name, header, frames)
    if header.container == "FLAC" and not _ends_well(fd, header):
        raise _truncated(name, "its last frame cannot be decoded")
    info = SourceInfo(
        path=path,
        frames=frames,
        sample_rate=rate_hz,
        channels=channels,
        format=form,
        subtype=subtype,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        inode=status.st_ino,
        device=status.st_dev,
        ctime_ns=status.st_ctime_ns,
        remarks=bounded(header.remarks),
    )
    return info, header


def open_decoder(fd: int, header: headers.Header) -> Decoder:
    """Open what the walk over the header found, from its beginning. Closing it leaves `fd` open. Raises DecodeError."""
    if not header.container and _looks_like_mpeg(os.pread(fd, 3, 0)):
        raise DecodeError("it begins like MPEG audio, and has no two frames in a row")  # libsndfile would search on
    return open_pieces(fd, header.pieces)


def _looks_like_mpeg(head: bytes) -> bool:
    return head == b"ID3" or (head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0)


def texts_of(fd: int) -> dict[str, str]:
    """The texts that libsndfile finds in an open file, by its names; none where it cannot open it."""
    try:
        with contextlib.closing(LibsndfileDecoder(fd)) as decoder:
            return decoder.texts()
    except DecodeError:
        return {}


def _check_limits(name: str, rate_hz: int | None, channels: int | None) -> None:
    low, high = RATE_LIMITS_HZ
    if rate_hz is not None and not low <= rate_hz <= high:
        message = f"{name} says it has {rate_hz:,} samples a second; {low:,} to {high:,} are accepted"
        raise InputLimits(message, remedy="if its header is wrong: ffmpeg -i IN -af asetrate=8000 OUT.wav")
    if channels is not None and not 1 <= channels <= CHANNELS_LIMIT:
        message = f"{name} says it has {channels:,} channels; 1 to {CHANNELS_LIMIT} are accepted"
        raise InputLimits(message, remedy="split it into files of fewer channels")


def _check_length(name: str, header: headers.Header, frames: int) -> None:
    if header.trouble == "no_frames" or (frames == 0 and header.trouble is None):
        raise InputEmpty(f"{name} holds no audio: its header is whole, its length is zero")
    if header.trouble is not None:
        raise _truncated(name, header.detail)
    if frames >= 2**60:  # libsndfile's way of saying that it does not know
        raise _truncated(name, "its header does not say how long it is")


def _truncated(name: str, detail: str) -> InputTruncated:
    remedy = f"copy it again; or keep what is there: ffmpeg -i {name} OUT.wav"
    return InputTruncated(f"{name} is cut short: {detail}", remedy=remedy)


def _decoder_error(path: Path, name: str, header: headers.Header, e: DecodeError) -> InputTruncated | InputFormat:
    remedy = f"convert it: ffmpeg -i {name} OUT.wav"
    if header.trouble in ("cut", "unpatched"):
        return _truncated(name, header.detail)
    if header.trouble == "no_data":
        return InputFormat(f"{name} cannot be decoded: {header.detail}", remedy=remedy)
    if header.container in ("WAV", "RIFX", "RF64", "W64") and header.codec_tag not in (None, *_PLAIN_TAGS):
        tag = f"its codec (WAVE format 0x{header.codec_tag:04X}) is not one that libsndfile decodes"
        return InputFormat(f"{name} cannot be decoded: {tag}", remedy=remedy)
    hint = formats.BY_EXTENSION.get(path.suffix.lower())
    if not header.container and hint is not None and hint.options:
        message = f"{name} is headerless audio: nothing in it says its rate or format"
        return InputFormat(message, remedy=f"say what it is: ffmpeg {hint.options} -i {name} OUT.wav")
    if not header.container:
        return InputFormat(f"{name} is not audio, or in a container that libsndfile does not read", remedy=remedy)
    return InputFormat(f"{name} cannot be decoded: {e.message}", remedy=remedy)


def _ends_well(fd: int, header: headers.Header) -> bool:
    """Whether the last frame that the header promises can be decoded."""
    try:
        with contextlib.closing(open_decoder(fd, header)) as decoder:
            decoder.seek(decoder.frames - 1)
            return len(decoder.read(1)) == 1
    except DecodeError:
        return False
