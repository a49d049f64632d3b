"""ffmpeg as a decoder for what libsndfile does not read: a child process, its output read through a pipe.

The child reads the open file by its descriptor, so no name reaches it, and gets no network, no other protocol than that
file, no format that could name further files (playlists, lists of files), one thread and bounded memory. It hands over
floats behind an AU header, which says rate and channels and knows no limit of length. No temporary file is made.

How long a file is, only decoding tells for sure. So it is decoded once to count, and what was found is remembered for
as long as the file stays as it is.

Whether a file was cut, ffmpeg tells in words and goes on. So do its messages count here, and where the container says
how long the recording is, that is held against what came out.

Longer than other modules: the child's command line, its messages and its end are one contract with one program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import threading
from fractions import Fraction
from typing import IO, Final

import numpy as np

from batchsr.audio.decoders.interface import DecodeError
from batchsr.audio.decoders.virtual_file import Range, VirtualFile
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block

VARIABLE: Final = "BATCHSR_FFMPEG"
"""The environment's word on which ffmpeg to take: a path, or "off" for none."""
NO_SOUND: Final = "it has no audio track"
_STALL_S: Final = 60
_TRIAL_S: Final = 10
_TRIAL_SAMPLES: Final = 16_384
_MEMORY_BYTES: Final = 2 << 30
_PORTION_BYTES: Final = 1 << 20
_LONGEST_LOG_BYTES: Final = 64 << 10
_SLACK_S: Final = 0.15
"""What a container's own length may say more than there is: a decoder's delay, a rounding."""
_FORMATS: Final = (
    "aac,ac3,act,aea,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,daud,dff,dsf,dss,dts,dtshd,dv,eac3,flac,flv,g723_1,iff,ivr,"
    "kvag,loas,m4v,matroska,webm,mlp,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,ogg,oma,qcp,"
    "rm,sdr2,shn,smjpeg,sox,spdif,swf,tak,truehd,tta,voc,vqf,w64,wav,wsvqa,wtv,wv,xa,xwma"
)
_LONGEST_FILLING: Final = 8_192
"""Samples by which a coder's last frame may be filled up; a file that is longer still holds something else."""
_CUT_WORDS: Final = ("partial file", "ended prematurely", "truncat", "end of file")
_INPUT: Final = re.compile(r"Input #0, (\S+?), from")
_AUDIO: Final = re.compile(r"Stream #0:\d+\S*: Audio: (\w+)")
_VIDEO: Final = re.compile(r"Stream #0:\d+\S*: Video: .*")
_SHORTER: Final = "its header promises"
_NO_TRACK: Final = "matches no streams"
_DURATION: Final = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_MESSAGE: Final = re.compile(r"^(?:\[[^]]*\] )*\[(warning|error|fatal|panic)\] (.*)$", re.MULTILINE)
_GUESSED: Final = "Estimating duration from bitrate"


@dataclasses.dataclass(frozen=True, slots=True)
class _Facts:
    """What a whole pass over the file found."""

    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    cut: str
    """How it is seen that the file ends too early; "" if it does not."""
    remarks: tuple[Remark, ...]


def program() -> str | None:
    """Return the path of ffmpeg: the environment's word, else the one on the search path, else that of the extra."""
    asked = os.environ.get(VARIABLE, "")
    if asked:
        return None if asked == "off" else shutil.which(asked)
    found = shutil.which("ffmpeg")
    if found is None:
        with contextlib.suppress(ImportError, RuntimeError):
            import imageio_ffmpeg

            found = str(imageio_ffmpeg.get_ffmpeg_exe())
    return found


@functools.cache
def version(path: str) -> str:
    """Return what an ffmpeg calls its version, or "unknown"."""
    try:
        said = subprocess.run([path, "-version"], capture_output=True, timeout=20, check=True, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    words = said.stdout.decode("utf-8", "replace").split()
    return words[2] if words[:2] == ["ffmpeg", "version"] and len(words) > 2 else "unknown"


def first_block(fd: int, *, filters: str = "", limit_s: float = _TRIAL_S) -> Block | None:
    """Return the first samples that ffmpeg gives of an open file, float32 (n, C); n is 0 where it gives none.

    `filters` is what it is to do with them. None where ffmpeg is not there, or gave nothing within `limit_s` seconds.
    """
    path = program()
    if path is None:
        return None
    late = threading.Event()
    block: Block = np.zeros((0, 1), np.float32)
    try:
        child = _Child(path, fd, (), filters)
    except DecodeError:
        return None

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limit_s, stop)
    timer.start()
    try:
        rate_hz, channels = child.header()
        if rate_hz and channels:
            block = child.read(max(_TRIAL_SAMPLES // channels, 1), channels)
    except DecodeError:
        return None
    finally:
        timer.cancel()
        timer.join()
        child.end()
    return None if late.is_set() and not len(block) else block


class FfmpegDecoder:
    """A whole file that ffmpeg decodes: the first of its audio streams."""

    def __init__(
        self,
        file: VirtualFile,
        *,
        duration: Fraction | None = None,
        pause: Fraction = Fraction(0),
        accept_truncated: bool = False,
    ) -> None:
        """Decode the file once to learn what it is. `duration`, in seconds, is where its sound surely ends.

        `pause`, in seconds, is how much of the container's length passes before the sound begins.

        Raises DecodeError, with `cut` set for a file that was cut.
        """
        path = program()
        if path is None:
            raise DecodeError("ffmpeg is not there")
        self._path, self._fd, self._stretch = path, file.fd, _stretch(file)
        status = os.fstat(file.fd)
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        facts = _facts(path, file.fd, self._stretch, float(pause), (*identity, *self._stretch))
        if facts.cut and not accept_truncated:
            raise DecodeError(facts.cut, cut=True)
        self.name = f"ffmpeg {version(path)}"
        self.sample_rate, self.channels, self.frames = facts.sample_rate, facts.channels, facts.frames
        if duration is not None:
            surplus = self.frames - round(duration * self.sample_rate)
            self.frames -= surplus if 0 < surplus <= _LONGEST_FILLING else 0
        self._position = 0
        self.format, self.subtype, self.remarks = facts.format, facts.subtype, facts.remarks
        if facts.cut:
            message = f"it is cut short: {facts.cut}; what is there was read, as --accept-truncated asks"
            self.remarks = (Remark("input.cut_short", message), *facts.remarks)
        self._child: _Child | None = None

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels)."""
        if self._child is None:
            self._child = _Child(self._path, self._fd, self._stretch)
            self._child.header()
        block = self._child.read(min(frames, self.frames - self._position), self.channels)
        self._position += len(block)
        return block

    def seek(self, frame: int) -> None:
        """Go to a frame, by decoding up to it from the beginning."""
        self.close()
        while frame > 0 and len(block := self.read(min(frame, 65_536))):
            frame -= len(block)

    def close(self) -> None:
        """End the child process."""
        if self._child is not None:
            self._child.end()
            self._child = None
            self._position = 0


class _Child:
    """One run of ffmpeg over a file."""

    def __init__(self, path: str, fd: int, stretch: tuple[int, ...], filters: str = "") -> None:
        name = f"file:/dev/fd/{fd}"
        if stretch:
            name = f"subfile,,start,{stretch[0]},end,{stretch[1]},,:{name}"
        command = [path, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", "-max_alloc", "268435456"]
        command += ["-threads", "1", "-protocol_whitelist", "file,subfile", "-format_whitelist", _FORMATS]
        command += ["-err_detect", "crccheck"]  # otherwise what a checksum shows to be wrong is heard without a word
        command += ["-i", name, "-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"]
        command += ["-af", filters] if filters else []
        command += ["-threads", "1", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(fd,),
                cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"},
            )
        except OSError as e:
            raise DecodeError(f"ffmpeg cannot be started: {e.strerror}", system=True) from e
        _bound_memory(self._process.pid)
        self._log = bytearray()
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()

    def header(self) -> tuple[int, int]:
        """Read the AU header: (rate, channels). (0, 0) if nothing comes."""
        head = self._take(24)
        if len(head) < 24:
            return 0, 0
        magic, start, _, _, rate_hz, channels = struct.unpack(">4s5I", head)
        if magic != b".snd":
            raise DecodeError("ffmpeg gave something else than was asked for")
        self._take(start - 24)
        return rate_hz, channels

    def read(self, frames: int, channels: int) -> Block:
        """Return the next samples, (n, channels)."""
        octets = self._take(frames * channels * 4)
        whole = len(octets) // (4 * channels) * 4 * channels
        return np.frombuffer(octets[:whole], ">f4").astype(np.float32).reshape(-1, channels)

    def count(self, channels: int) -> int:
        """Read to the end, and return how many frames came."""
        octets = 0
        while portion := self._take(_PORTION_BYTES):
            octets += len(portion)
        return octets // (4 * channels)

    def kill(self) -> None:
        """Stop it where it is; `end` has still to be called."""
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """End it: (its exit status, what it said)."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._ended(2)
        self._process.kill()
        return self._ended(None)

    def _ended(self, timeout_s: float | None) -> tuple[int, str]:
        status = self._process.wait(timeout_s)
        self._listener.join()
        return status, self._log.decode("utf-8", "replace")

    def _take(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end. Raises DecodeError when nothing comes for a minute."""
        pipe = self._process.stdout
        assert pipe is not None
        parts: list[bytes] = []
        while count > 0:
            if not select.select([pipe], [], [], _STALL_S)[0]:
                self._process.kill()
                raise DecodeError(f"ffmpeg gave nothing for {_STALL_S} s")
            part = os.read(pipe.fileno(), min(count, _PORTION_BYTES))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _listen(self, pipe: IO[bytes]) -> None:
        """Keep the beginning and the end of what it says; a damaged file has it say the same without end."""
        with pipe:
            while part := os.read(pipe.fileno(), 8192):
                self._log += part
                if len(self._log) > _LONGEST_LOG_BYTES:
                    half = _LONGEST_LOG_BYTES // 2
                    self._log[half:] = self._log[-half:]


_memory: dict[tuple[str, tuple[int, ...]], _Facts] = {}
_MOST_REMEMBERED: Final = 256


def _stretch(file: VirtualFile) -> tuple[int, ...]:
    """Return where the bytes of a joined file begin and end; () for a whole file."""
    segment = file.segments[0] if len(file.segments) == 1 else None
    if not isinstance(segment, Range) or (segment.start == 0 and segment.length >= os.fstat(file.fd).st_size):
        return ()
    return segment.start, segment.start + segment.length


def _facts(path: str, fd: int, stretch: tuple[int, ...], pause_s: float, identity: tuple[int, ...]) -> _Facts:
    """Decode a file once. `identity` is what stays the same only while the file does."""
    key = (path, identity)
    found = _memory.get(key)
    if found is None:
        found = _decode_once(path, fd, stretch, pause_s)
        while len(_memory) >= _MOST_REMEMBERED:
            _memory.pop(next(iter(_memory)), None)
        _memory[key] = found
    return found


def _decode_once(path: str, fd: int, stretch: tuple[int, ...], pause_s: float) -> _Facts:
    child = _Child(path, fd, stretch)
    frames = 0
    try:
        rate_hz, channels = child.header()
        if channels:
            frames = child.count(channels)
    finally:
        status, log = child.end()
    messages = [text.strip() for _, text in _MESSAGE.findall(log)]
    faults = [text.strip() for level, text in _MESSAGE.findall(log) if level != "warning"]
    cut = next((text for text in messages if any(word in text.lower() for word in _CUT_WORDS)), "")
    if not frames or not channels:
        if any(_NO_TRACK in text for text in messages):
            raise DecodeError(NO_SOUND)
        reason = _plain(cut or (faults[0] if faults else "it holds no audio that ffmpeg decodes"))
        raise DecodeError(f"ffmpeg says: {reason}", cut=bool(cut))
    claimed_s = _claimed_s(log)
    if not cut and claimed_s is not None and frames / rate_hz + pause_s < claimed_s * 0.999 - _SLACK_S:
        cut = f"{_SHORTER} {claimed_s:.2f} s, {frames / rate_hz:.2f} s could be decoded"
    elif not cut and status:
        cut = faults[-1] if faults else f"ffmpeg ended with {status}"
    remarks = []
    if _SHORTER in cut and _has_picture(log):
        # The container's length is that of the pictures, and sound may be shorter.
        remarks.append(
            Remark("input.shorter_sound", f"its pictures last {claimed_s:.2f} s, its sound {frames / rate_hz:.2f} s")
        )
        cut = ""
    if faults and not cut:
        message = f"ffmpeg found {len(faults)} faults in it, so some of its sound may be missing: {_plain(faults[0])}"
        remarks.append(Remark("input.faults", message))
    head = log.split("Stream mapping:")[0]
    codecs = _AUDIO.findall(head)
    if len(codecs) > 1:
        message = f"it has {len(codecs)} audio tracks: the first one is restored"
        remarks.append(Remark("input.more_tracks", message))
    container = _INPUT.search(head)
    form = container[1].split(",")[0].upper() if container else "UNKNOWN"
    form = {"MOV": "MP4", "MATROSKA": "MKV"}.get(form, form)
    return _Facts(rate_hz, channels, frames, form, codecs[0].upper() if codecs else "", _plain(cut), tuple(remarks))


def _has_picture(log: str) -> bool:
    """Return whether there is a video beside the sound, and not a cover only."""
    return any("attached pic" not in line for line in _VIDEO.findall(log.split("Stream mapping:")[0]))


def _claimed_s(log: str) -> float | None:
    """Return how long the container says the recording is, in seconds; None where it does not."""
    found = _DURATION.search(log)
    if found is None or _GUESSED in log:
        return None
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3])


def _plain(text: str) -> str:
    """Return a message of ffmpeg's without what differs from run to run, and not too long."""
    return re.sub(r"(subfile,[^:]*:)?file:/dev/fd/\d+:? ?|0x[0-9a-f]{6,}", "", text)[:160].strip()


def _bound_memory(pid: int) -> None:
    """Keep a child from taking more memory than any recording needs; on Linux, where one may ask for another."""
    if sys.platform == "linux":
        import resource

        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
