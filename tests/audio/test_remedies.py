"""A command is offered only for a file that it was tried on; where it could not be tried, the sentence says so."""

from __future__ import annotations

import os
import shlex
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from batchsr.audio.decoders import ffmpeg, remedies
from batchsr.audio.decoders.interface import DecodeError
from batchsr.audio.files import Source, probe
from batchsr.errors import InputError
from tests.audio import odd_files as odd

needs_ffmpeg = pytest.mark.skipif(ffmpeg.program() is None, reason="there is no ffmpeg")
NOISE = np.random.default_rng(3).bytes(4096)


def coded(tag: int, bits: int) -> bytes:
    fmt = struct.pack("<HHIIHHH", tag, 1, 8_000, 4_000, 256, bits, 0)
    return odd.riff(odd.chunk(b"fmt ", fmt), odd.chunk(b"data", NOISE))


def rated(rate_hz: int) -> bytes:
    return odd.riff(
        odd.chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, rate_hz, 2 * rate_hz, 2, 16)), odd.chunk(b"data", NOISE)
    )


READ: dict[str, tuple[bytes, str]] = {
    "a codec that ffmpeg has": (coded(0x20, 4), "convert it: "),
    "a rate too low": (rated(500), "if its header is wrong: "),
}
UNREAD: dict[str, tuple[bytes, str]] = {
    "a codec that nobody has": (coded(0xABCD, 4), remedies.NOBODY),
    "no audio": (bytes(range(32)) * 100, remedies.NOBODY),
    "cut before its audio": (odd.wav(odd.sound())[:40], remedies.NOBODY),
    "a rate of zero": (rated(0), "copy it again: its header is damaged"),
    "a chunk of audio that nothing describes": (odd.riff(odd.chunk(b"data", NOISE)), remedies.NOBODY),
}


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as refusal:
        probe(path)
    return refusal.value


@needs_ffmpeg
@pytest.mark.parametrize("name", READ)
def test_the_command_that_is_offered_makes_sound(tmp_path: Path, name: str) -> None:
    data, purpose = READ[name]
    remedy = refused(odd.write(tmp_path, "x.wav", data)).remedy or ""
    assert remedy.startswith(purpose)
    command = shlex.split(remedy.removeprefix(purpose))
    subprocess.run([str(ffmpeg.program()), *command[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert soundfile.info(tmp_path / "OUT.wav").frames >= 1_000


@needs_ffmpeg
@pytest.mark.parametrize("name", UNREAD)
def test_no_command_is_offered_that_gives_nothing(tmp_path: Path, name: str) -> None:
    data, remedy = UNREAD[name]
    assert refused(odd.write(tmp_path, "x.wav", data)).remedy == remedy


@pytest.mark.parametrize("name", [*READ, *UNREAD])
def test_without_ffmpeg_the_sentence_says_that_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(ffmpeg.VARIABLE, "off")
    path = odd.write(tmp_path, "x.wav", (READ | UNREAD)[name][0])
    remedy = refused(path).remedy or ""
    assert "ffmpeg may read it: ffmpeg -i " in remedy
    assert ("asetrate" in remedy) == ("rate" in name)


class Broken:
    """A decoder that gives out at once."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def fail(*args: object) -> object:
            raise DecodeError("a checksum is wrong")

        return fail

    def close(self) -> None:
        pass


@needs_ffmpeg
@pytest.mark.parametrize("program", ["", "off"])
@pytest.mark.parametrize("sound", [True, False])
def test_a_file_that_breaks_on_the_way_is_tried_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, sound: bool
) -> None:
    monkeypatch.setenv(ffmpeg.VARIABLE, program)
    path = odd.write(tmp_path, "x.wav", odd.wav(odd.sound()))
    with Source.open(path) as source:
        monkeypatch.setattr("batchsr.audio.probe.open_decoder", lambda *_: Broken())
        if not sound:
            monkeypatch.setattr(ffmpeg, "first_block", lambda *_, **__: None if program else np.zeros((0, 1)))
        with pytest.raises(InputError) as refusal:
            next(source.blocks())
    expected = remedies.NOBODY if not sound else "copy it again; or keep what can be decoded: ffmpeg -i "
    if program == "off":
        expected = "copy it again; or ffmpeg may read it: ffmpeg -i "
    assert (refusal.value.remedy or "").startswith(expected)


@needs_ffmpeg
def test_a_file_is_tried_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    first_block = ffmpeg.first_block
    monkeypatch.setattr(ffmpeg, "first_block", lambda fd, **options: (tried.append(fd), first_block(fd, **options))[1])
    path = odd.write(tmp_path, "x.wav", coded(0xABCD, 4))
    assert refused(path).remedy == refused(path).remedy == remedies.NOBODY
    assert len(tried) == 1
    path.write_bytes(coded(0x20, 4) + b"more")
    assert "convert it: " in (refused(path).remedy or "")
    assert len(tried) == 2


def test_an_ffmpeg_that_does_not_answer_leaves_it_untried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "ffmpeg"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv(ffmpeg.VARIABLE, str(slow))
    fd = os.open(odd.write(tmp_path, "x.wav", coded(0x20, 4)), os.O_RDONLY)
    try:
        assert ffmpeg.first_block(fd, limit_s=0.1) is None
    finally:
        os.close(fd)
