"""Decide, without decoding it, whether a path is a recording that can be restored, and say what it is.

Longer than other modules: all ways in which a file is refused are decided here, in one order.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import stat
from fractions import Fraction
from pathlib import Path
from typing import Final

from batchsr import storage
from batchsr.audio import formats
from batchsr.audio.containers import first_bytes, headers
from batchsr.audio.containers.found import CUT
from batchsr.audio.containers.wave_format import CODECS
from batchsr.audio.decoders import ffmpeg, ffmpeg_parts, mixed, remedies
from batchsr.audio.decoders.interface import DecodeError, Decoder, Part
from batchsr.audio.decoders.libsndfile import LIBSNDFILE_VERSION, LibsndfileDecoder
from batchsr.audio.decoders.opening import open_pieces, opens
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

_LOOK_BYTES: Final = 4096
LIBSNDFILE: Final = f"libsndfile {LIBSNDFILE_VERSION}"
COPY: Final = "copy it again from where it came"
INSTALL: Final = "install ffmpeg, or the extra with it (pip install 'batchsr[ffmpeg]'), and retry: then it is read"
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
    decoder: str = LIBSNDFILE
    """Who decodes it, with its version."""
    exact_rate: Fraction | None = None
    """Samples a second where that is no whole number: old Macs' 22,254.54."""

    @property
    def rate(self) -> int | Fraction:
        """Samples a second, exactly."""
        return self.exact_rate or self.sample_rate

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.frames / self.rate)

    def samples_at(self, rate_hz: int = SAMPLE_RATE_HZ) -> int:
        """Return the length of one channel at a rate: `frames * rate_hz / rate`, rounded up."""
        return int(-(-self.frames * rate_hz // self.rate))


def probe(path: Path, *, accept_truncated: bool = False) -> SourceInfo:
    """Return what stands under `path`. With `accept_truncated` a file that was cut short is what is there of it.

    Never blocks on a FIFO, a device or a socket, and leaves the file as it is (also its access time, where the
    system lets us). Raises an InputError that names the file and the remedy.
    """
    fd, status = open_regular(path)
    try:
        return probe_open(path, fd, status, accept_truncated=accept_truncated)
    finally:
        os.close(fd)


def fits_header(path: Path) -> bool:
    """Return whether the file is as long as its header says; cheap, for a file that may still be growing.

    True also where the header does not tell, and for what is no audio at all: `probe` has the last word. False
    for ever for a file that was cut, so a caller that waits on this needs a limit. Raises an InputError when
    the path cannot be opened.
    """
    fd, status = open_regular(path)
    try:
        header = headers.inspect(fd, status.st_size)
        if status.st_size == 0 or header.trouble in ("cut", "unpatched") or header.still_growing:
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
    remedies = {
        "a folder": "enqueue a folder with -r, or name the recordings in it",
        "a pipe": "write it to a file first",
        "a socket": "write what it carries to a file first",
        "a device": "record to a file first",
    }
    kind = storage.kind_of(status.st_mode)
    raise InputNotRegular(f"{name} is {kind}, not a file", remedy=remedies[kind])


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


def probe_open(path: Path, fd: int, status: os.stat_result, *, accept_truncated: bool = False) -> SourceInfo:
    """`probe` for a file that is open. The file's position is anywhere afterwards."""
    return examine(path, fd, status, accept_truncated=accept_truncated)[0]


def examine(
    path: Path, fd: int, status: os.stat_result, *, accept_truncated: bool = False
) -> tuple[SourceInfo, headers.Header]:
    """`probe_open`, with what the walk over the header found: `open_decoder` takes it."""
    name = shown(path)
    if status.st_size == 0:
        raise InputEmpty(f"{name} is empty: 0 bytes", remedy=COPY)
    try:
        header = headers.inspect(fd, status.st_size)
    except OSError as e:
        raise InputUnreadable(f"{name} cannot be read: {e.strerror}", remedy="check the disk") from e
    if header.trouble == "mangled":
        raise InputFormat(f"{name} cannot be decoded: {header.detail}", remedy=COPY)
    if header.data_start and header.container != "FLAC":
        _check_limits(name, fd, header.rate_hz, header.channels)
    if header.trouble == "unsupported":
        raise _unsupported(name, fd, header)
    if accept_truncated and header.trouble in ("cut", "mid_sample") and header.rest:
        header = _as_it_is(header)
    try:
        several = _joined(path, fd, status.st_size, header, accept_truncated)
        if several is not None and several.trouble is not None:
            raise _unsupported(name, fd, several)
        header = several or _for_ffmpeg(path, fd, status.st_size, _settled(fd, header), accept_truncated)
        with contextlib.closing(open_decoder(fd, header)) as decoder:
            frames, rate_hz, channels = decoder.frames, decoder.sample_rate, decoder.channels
            form, subtype, by = decoder.format, decoder.subtype, _reader_of(header)
            remarks = bounded((*header.remarks, *decoder.remarks))
    except DecodeError as e:
        if e.cut:
            raise _truncated(name, fd, e.message, acceptable=True) from e
        if not header.container and (refusal := _no_container(path, name, os.pread(fd, _LOOK_BYTES, 0), e)) is not None:
            raise refusal from e
        raise _decoder_error(name, fd, header, e) from e
    _check_limits(name, fd, rate_hz, channels)
    _check_length(name, fd, header, frames)
    if header.container == "FLAC" and not _ends_well(fd, header):
        detail = "its last frame cannot be decoded"
        if not header.rest:
            raise InputTruncated(f"{name} is cut short: {detail}, and no frame is whole before it", remedy=COPY)
        as_it_is = _as_it_is(header)
        with contextlib.closing(open_decoder(fd, as_it_is)) as decoder:
            there = decoder.frames
        if frames > there:
            detail += f", {(frames - there) / rate_hz:,.2f} of {frames / rate_hz:,.2f} s are missing"
        if not accept_truncated:
            raise _truncated(name, fd, detail, acceptable=True)
        header = _as_it_is(dataclasses.replace(header, detail=detail))
        frames, remarks = there, bounded(header.remarks)
    exact = header.exact_rate
    if exact is not None and abs(exact - rate_hz) >= 1:
        exact = None  # parts of several rates were brought to one
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
        remarks=remarks,
        decoder=by,
        exact_rate=exact,
    )
    return info, header


def _reader_of(header: headers.Header) -> str:
    """Return who decodes a file, with its version, for the sidecar."""
    path = ffmpeg.program() if header.container in ("FOREIGN", mixed.MIXED) else None
    if path is None:
        return LIBSNDFILE
    by = f"ffmpeg {ffmpeg.version(path)}"
    return f"{LIBSNDFILE}, {by}" if header.container == mixed.MIXED else by


def _joined(path: Path, fd: int, size: int, header: headers.Header, accept_truncated: bool) -> headers.Header | None:
    """Return what the file is if files of other kinds were joined behind it; None if none were."""
    is_sound = bool(header.container) or first_bytes.is_for_ffmpeg(os.pread(fd, _LOOK_BYTES, 0), path.suffix)
    if header.trouble is not None or not is_sound:
        return None
    try:
        return mixed.joined(headers.BytesAt(fd, size), header, accept_truncated=accept_truncated)
    except OSError as e:
        raise InputUnreadable(f"{shown(path)} cannot be read: {e.strerror}", remedy="check the disk") from e


def _for_ffmpeg(path: Path, fd: int, size: int, header: headers.Header, accept_truncated: bool) -> headers.Header:
    """Return the header, with ffmpeg to decode the file where that is what reads its format and it is there."""
    head = os.pread(fd, _LOOK_BYTES, 0)
    if (
        header.container == "CAF"
        and header.trouble is None
        and ffmpeg.program() is not None
        and not opens(fd, header.pieces)
    ):
        opener = functools.partial(ffmpeg.FfmpegDecoder, accept_truncated=accept_truncated)
        title = formats.BY_EXTENSION[".caf"].title
        return dataclasses.replace(
            header, container="FOREIGN", detail=title, pieces=(Part(opener=opener),), frames=None
        )
    if header.container or not first_bytes.is_for_ffmpeg(head, path.suffix) or ffmpeg.program() is None:
        return header
    parts, remarks = ffmpeg_parts.parts(headers.BytesAt(fd, size), accept_truncated=accept_truncated)
    header = dataclasses.replace(header, remarks=(*header.remarks, *remarks))
    hint = formats.BY_EXTENSION.get(path.suffix.lower())
    form = first_bytes.format_of(head) or hint
    title = form.title if form is not None else "a stream of another kind"
    return dataclasses.replace(header, container="FOREIGN", detail=title, pieces=parts)


def _as_it_is(header: headers.Header) -> headers.Header:
    """Return a file that was cut short, taken for what is there of it."""
    remark = Remark(CUT, f"it is cut short: {header.detail}; what is there was read, as --accept-truncated asks")
    return dataclasses.replace(
        header, trouble=None, pieces=header.rest, own=(), frames=None, remarks=(remark, *header.remarks)
    )


def _settled(fd: int, header: headers.Header) -> headers.Header:
    """Return the header with its own pieces, unless libsndfile finds the same in the file as it is. Raises
    DecodeError."""
    if header.pieces or not header.own or header.trouble is not None:
        return header
    own = dataclasses.replace(header, pieces=header.own)
    try:
        decoder = LibsndfileDecoder(fd)
    except DecodeError as e:
        if e.system:
            raise
        return own
    with contextlib.closing(decoder):
        found = (decoder.frames, decoder.channels)
    return header if found == (header.frames, header.channels) else own


def _unsupported(name: str, fd: int, header: headers.Header) -> InputFormat:
    remedy = header.remedy.format(name=name) if header.remedy else remedies.by_ffmpeg(fd, name, "convert it")
    return InputFormat(f"{name} cannot be decoded: {header.detail}", remedy=remedy)


def open_decoder(fd: int, header: headers.Header) -> Decoder:
    """Open what the walk over the header found, from its beginning. Closing it leaves `fd` open. Raises DecodeError."""
    if not header.container and _looks_like_mpeg(os.pread(fd, 3, 0)):
        raise DecodeError("it begins like MPEG audio, and has no two frames in a row")  # libsndfile would search on
    return open_pieces(fd, header.pieces)


def _looks_like_mpeg(head: bytes) -> bool:
    return head == b"ID3" or (head[:1] == b"\xff" and head[1] & 0xE0 == 0xE0)


def texts_of(fd: int) -> dict[str, str]:
    """Return the texts that libsndfile finds in an open file, by its names; none where it cannot open it."""
    try:
        with contextlib.closing(LibsndfileDecoder(fd)) as decoder:
            return decoder.texts()
    except DecodeError:
        return {}


def _check_limits(name: str, fd: int, rate_hz: int | None, channels: int | None) -> None:
    low, high = RATE_LIMITS_HZ
    if rate_hz is not None and not low <= rate_hz <= high:
        message = f"{name} says it has {rate_hz:,} samples a second; {low:,} to {high:,} are accepted"
        damaged = "copy it again: its header is damaged"
        remedy = remedies.by_ffmpeg(fd, name, "if its header is wrong", otherwise=damaged, filters="asetrate=8000")
        raise InputLimits(message, remedy=remedy)
    if channels is not None and not 1 <= channels <= CHANNELS_LIMIT:
        message = f"{name} says it has {channels:,} channels; 1 to {CHANNELS_LIMIT} are accepted"
        remedy = "split it into files of fewer channels" if channels else "copy it again: its header is damaged"
        raise InputLimits(message, remedy=remedy)


def _check_length(name: str, fd: int, header: headers.Header, frames: int) -> None:
    if header.trouble == "no_frames" or (frames == 0 and header.trouble is None):
        why = header.detail if header.trouble == "no_frames" else ""
        raise InputEmpty(f"{name} holds no audio: {why or 'its header is whole, its length is zero'}")
    if header.trouble is not None:
        raise _truncated(name, fd, header.detail, acceptable=bool(header.rest))
    if frames >= 2**60:  # libsndfile's way of saying that it does not know
        raise _truncated(name, fd, "its header does not say how long it is")


def _truncated(name: str, fd: int, detail: str, *, acceptable: bool = False) -> InputTruncated:
    again = "copy it again; or "
    if acceptable:
        remedy = f"{again}restore what is there with --accept-truncated"
    else:
        remedy = remedies.by_ffmpeg(fd, name, "keep what is there", first=again)
    return InputTruncated(f"{name} is cut short: {detail}", remedy=remedy)


def _no_container(path: Path, name: str, head: bytes, e: DecodeError) -> InputFormat | None:
    """Return what is to be said of a file that is none of the containers known here; None if it looks like
    none at all."""
    hint = formats.BY_EXTENSION.get(path.suffix.lower())
    form = first_bytes.format_of(head) or (hint if first_bytes.is_for_ffmpeg(head, path.suffix) else None)
    if form is not None and form.reader == "libsndfile":
        return InputFormat(f"{name} begins as {form.title}, and goes on as none that is read", remedy=COPY)
    if form is not None:
        but = ", whatever its name says," if hint is not None and hint is not form else ""
        return InputFormat(f"{name} is{but} {form.title}, which libsndfile does not read", remedy=INSTALL)
    what, instead = first_bytes.named(head)
    if what:
        return InputFormat(f"{name} is not audio but {what}", remedy=instead)
    if hint is not None and hint.options:
        what = f"{name} is headerless audio: nothing in it says its rate or format"
        return InputFormat(what, remedy=f"say what it is: ffmpeg {hint.options} -i {name} OUT.wav")
    return None


def _decoder_error(name: str, fd: int, header: headers.Header, e: DecodeError) -> InputTruncated | InputFormat:
    if header.container == "FOREIGN":
        if e.message == ffmpeg.NO_SOUND:
            return InputFormat(
                f"{name} is {header.detail}, but {e.message}", remedy="find the recording that belongs to it"
            )
        remedy = COPY
        if "moov" in e.message:
            remedy += "; its index is missing, as when a recorder loses power: untrunc can make it anew"
        return InputFormat(f"{name} looks like {header.detail}, but cannot be decoded: {e.message}", remedy=remedy)
    if header.trouble in ("cut", "unpatched"):
        return _truncated(name, fd, header.detail, acceptable=bool(header.rest))
    remedy = remedies.by_ffmpeg(fd, name, "convert it")
    if header.trouble == "no_data":
        return InputFormat(f"{name} cannot be decoded: {header.detail}", remedy=remedy)
    if header.container in ("WAV", "RIFX", "RF64", "W64") and header.codec_tag not in (None, *_PLAIN_TAGS):
        number = f"WAVE format 0x{header.codec_tag:04X}"
        named = f"{CODECS[header.codec_tag]}, {number}" if header.codec_tag in CODECS else number
        tag = f"its codec ({named}) is not one that is decoded here"
        return InputFormat(f"{name} cannot be decoded: {tag}", remedy=remedy)
    if not header.container:
        return InputFormat(f"{name} is not audio, or in a container that libsndfile does not read", remedy=remedy)
    return InputFormat(f"{name} cannot be decoded: {e.message}", remedy=remedy)


def _ends_well(fd: int, header: headers.Header) -> bool:
    """Return whether the last frame that the header promises can be decoded."""
    try:
        with contextlib.closing(open_decoder(fd, header)) as decoder:
            decoder.seek(decoder.frames - 1)
            return len(decoder.read(1)) == 1
    except DecodeError:
        return False
