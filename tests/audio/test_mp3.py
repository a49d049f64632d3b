"""MP3 files that do not say their length are read to their last frame, neither more nor less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from batchsr.audio.containers.mp3 import frame_header
from batchsr.audio.files import Source, fits_header
from batchsr.errors import InputError, InputTruncated

ID3 = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
CASES = [
    (44_100, 1, "CONSTANT"),
    (44_100, 2, "VARIABLE"),
    (48_000, 2, "AVERAGE"),
    (22_050, 1, "VARIABLE"),
    (8000, 2, "CONSTANT"),
]


def encoded(path: Path, rate_hz: int, channels: int, mode: str) -> bytes:
    """Three seconds that get louder: a variable rate guessed from the first frame is far off."""
    signal = (
        np.random.default_rng(0).standard_normal((3 * rate_hz, channels)) * np.linspace(0, 0.2, 3 * rate_hz)[:, None]
    )
    with soundfile.SoundFile(
        path, "w", rate_hz, channels, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(signal)
    return path.read_bytes()


def without_length(whole: bytes) -> bytes:
    at = max(whole.find(b"Xing"), whole.find(b"Info"))
    return whole[:at] + bytes(4) + whole[at + 4 :]


def read(path: Path) -> np.ndarray:
    with Source.open(path) as source:
        blocks = np.concatenate(list(source.blocks(5000)))
        assert len(blocks) == source.info.frames
        return blocks


@pytest.mark.parametrize(("rate_hz", "channels", "mode"), CASES)
def test_the_length_is_counted_where_it_is_not_said(tmp_path: Path, rate_hz: int, channels: int, mode: str) -> None:
    path = tmp_path / "x.mp3"
    whole = encoded(path, rate_hz, channels, mode)
    expected = read(path)
    assert len(expected) == 3 * rate_hz
    for silent in (without_length(whole), ID3 + without_length(whole) + b"TAG" + bytes(125)):
        path.write_bytes(silent)
        got = read(path)
        # Nothing is known of the encoder's delay now: 20 to 80 ms of it stand before the sound, and padding behind.
        assert 3 * rate_hz < len(got) < 3 * rate_hz + 4000
        match = scipy.signal.correlate(got[:, 0], expected[:, 0], "valid", "fft").max()
        assert match > 0.98 * np.square(expected[:, 0]).sum()
        assert fits_header(path)


@pytest.mark.parametrize("known", [True, False])
def test_a_cut_is_noticed(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "x.mp3"
    whole = encoded(path, 44_100, 1, "VARIABLE")
    whole = whole if known else without_length(whole)
    for part in (0.3, 0.5, 0.99):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputTruncated, match="inside a frame"):
            read(path)
        assert not fits_header(path)


def test_junk_between_frames_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    whole = without_length(encoded(path, 44_100, 1, "CONSTANT"))
    path.write_bytes(whole)
    length = len(read(path))
    path.write_bytes(whole[:4180] + bytes(300) + whole[4180:])
    assert len(read(path)) == pytest.approx(length, abs=2 * 1152)


def test_what_begins_like_an_mp3_and_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    for content in (b"\xff\xfb\x90\x00" + bytes(5000), ID3, ID3 + bytes(1000), b"\xff\xff" * 500):
        path.write_bytes(content)
        with pytest.raises(InputError):
            read(path)


def test_headers_of_frames_are_read() -> None:
    frame = frame_header(bytes.fromhex("fffb9000"))
    assert frame is not None
    assert (frame.layer, frame.mpeg1, frame.rate_hz, frame.channels, frame.length_bytes) == (3, True, 44_100, 2, 417)
    free = frame_header(bytes.fromhex("fffb0200"))
    assert free is not None
    assert (free.length_bytes, free.padding_bytes) == (0, 1)
    # A forbidden bit rate, a forbidden sample rate, layer and version, no sync, and too few bytes.
    for wrong in ("fffbf000", "fffb9c00", "fff99000", "ffeb9000", "00fb9000", "fffb90"):
        assert frame_header(bytes.fromhex(wrong)) is None, wrong
