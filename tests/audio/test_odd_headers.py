"""A file whose header is odd is read whole, or refused with the reason; what is not audio is never heard."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from batchsr.audio.files import Source, fits_header, probe
from batchsr.audio.probe import SourceInfo
from batchsr.errors import InputEmpty, InputFormat, InputLimits, InputTruncated
from tests.audio import odd_files as odd

SOUND = odd.sound()
STEREO = odd.sound(3000, 2, seed=1)
LIST = odd.chunk(b"LIST", b"INFO" + odd.chunk(b"INAM", b"Well 3\0"))
BEXT = odd.chunk(b"bext", b"Reel 17".ljust(602, b"\0"))


def heard(path: Path, *, accept_truncated: bool = False) -> tuple[SourceInfo, NDArray[np.int32]]:
    """What is read of a file, as whole numbers of 16 bits."""
    with Source.open(path, accept_truncated=accept_truncated) as source:
        blocks = list(source.blocks())
        assert sum(map(len, blocks)) == source.info.frames
        return source.info, np.rint(np.concatenate(blocks) * 32768).astype(np.int32)


def codes(info: SourceInfo) -> list[str]:
    return [remark.code for remark in info.remarks]


WHOLE: dict[str, bytes] = {
    "wav": odd.wav(SOUND),
    "wav, chunks behind": odd.wav(SOUND, LIST, BEXT, odd.chunk(b"zzzz", bytes(3000))),
    "wav, unknown chunk of the RIFF that is cut": odd.wav(
        SOUND, odd.chunk(b"LGWV", bytes(40), claimed=4000), claimed=12_044
    ),
    "wav, a cut LIST behind": odd.wav(SOUND, LIST[:20]),
    "wav, ID3v1 and zeros behind": odd.wav(SOUND) + b"TAG" + bytes(125) + bytes(4096),
    "wav, zeros and ID3v1 behind": odd.wav(SOUND) + bytes(4096) + b"TAG" + b"x" * 125,
    "wav, APE tag behind": odd.wav(SOUND)
    + b"APETAGEX"
    + struct.pack("<4I8x", 2000, 32 + 20, 1, 1 << 31)
    + b"Title\0".ljust(20, b"q")
    + b"APETAGEX"
    + struct.pack("<4I8x", 2000, 32 + 20, 1, 1 << 31),
    "wav, its length counts a pad byte that is not there": odd.wav(SOUND, data_claims=8001),
    "wav, 12 bits in 16": odd.riff(odd.chunk(b"fmt ", odd.fmt(bits=12)), odd.chunk(b"data", SOUND.tobytes())),
    "wav, length of RIFF 0": odd.wav(SOUND, claimed=0),
    "wav, length of RIFF -1": odd.wav(SOUND, LIST, claimed=0xFFFFFFFF),
    "wav, two fmt alike": odd.riff(*2 * (odd.chunk(b"fmt ", odd.fmt()),), odd.chunk(b"data", SOUND.tobytes())),
    "wav, odd chunk without pad before the audio": odd.riff(
        odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"inst", b"1234567", pad=False), odd.chunk(b"data", SOUND.tobytes())
    ),
    "wav, unknown odd chunk without pad before the audio": odd.riff(
        odd.chunk(b"zzzz", b"12345", pad=False), odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"data", SOUND.tobytes())
    ),
    "wav, fmt of 14 bytes": odd.riff(odd.chunk(b"fmt ", odd.fmt()[:14]), odd.chunk(b"data", SOUND.tobytes())),
    "wav, byte rate wrong": odd.riff(odd.chunk(b"fmt ", odd.fmt(byte_rate=7)), odd.chunk(b"data", SOUND.tobytes())),
    "wavex, no valid bits, no mask": odd.riff(
        odd.chunk(b"fmt ", odd.extensible(1, 16, valid=0, mask=0)), odd.chunk(b"data", SOUND.tobytes())
    ),
    "wavex, a mask of five loudspeakers": odd.riff(
        odd.chunk(b"fmt ", odd.extensible(1, 16, valid=16, mask=0x1F)), odd.chunk(b"data", SOUND.tobytes())
    ),
    "wavex, more valid bits than there are": odd.riff(
        odd.chunk(b"fmt ", odd.extensible(1, 16, valid=24, mask=4)), odd.chunk(b"data", SOUND.tobytes())
    ),
    "rifx": odd.riff(
        odd.chunk(b"fmt ", odd.fmt(order=">"), order=">"),
        odd.chunk(b"data", SOUND.astype(">i2").tobytes(), order=">"),
        magic=b"RIFX",
        order=">",
    ),
    "rf64, bext behind": odd.rf64(SOUND, BEXT, ds64=struct.pack("<QQQI", 9000, 8000, 4000, 0)),
    "rf64, a long length of another chunk in its table": odd.rf64(
        SOUND,
        odd.chunk(b"zzzz", bytes(600), claimed=0xFFFFFFFF),
        BEXT,
        ds64=struct.pack("<QQQI4sQ", 9000, 8000, 4000, 1, b"zzzz", 600),
    ),
    "rf64, ds64 of zero beside a right length": odd.rf64(SOUND, LIST, ds64=bytes(28), data_claims=8000),
    "bw64": odd.rf64(SOUND, ds64=struct.pack("<QQQI", 8100, 8000, 4000, 0), magic=b"BW64"),
    "w64": odd.w64(SOUND),
    "w64, chunk behind": odd.w64(SOUND, odd.w64_chunk(b"mark", bytes(8000))),
    "w64, endless chunk behind": odd.w64(SOUND, odd.w64_chunk(b"mark", bytes(80), claimed=2**64 - 16)),
    "w64, odd junk before": odd.w64(SOUND, before=odd.w64_chunk(b"junk", bytes(29))),
    "aiff": odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000),
    "aiff, offset of 10": odd.aiff(b"\x7f" * 10 + SOUND.astype(">i2").tobytes(), frames=4000, offset=10),
    "aiff, blocks of 512": odd.aiff(SOUND.astype(">i2").tobytes() + b"\x55" * 192, frames=4000, block=512),
    "aiff, chunk behind": odd.aiff(
        SOUND.astype(">i2").tobytes(), odd.chunk(b"ANNO", b"x" * 99, order=">"), frames=4000
    ),
    "aiff, endless chunk behind": odd.aiff(
        SOUND.astype(">i2").tobytes(), odd.chunk(b"ANNO", b"x" * 99, claimed=2**32 - 2, order=">"), frames=4000
    ),
    "aifc, sowt": odd.aiff(SOUND.astype("<i2").tobytes(), frames=4000, codec=b"sowt"),
    "caf": odd.caf(SOUND),
    "caf, length unknown": odd.caf(SOUND, data_claims=-1),
    "caf, chunks behind": odd.caf(
        SOUND, odd.caf_chunk(b"midi", b"\x90\x40\x7f\0" * 2000), odd.caf_chunk(b"info", bytes(4))
    ),
    "au, length unknown": odd.au(SOUND, claimed=0xFFFFFFFF, note=b"tape 3".ljust(200, b"\0")),
    "au, little-endian": odd.au(SOUND, claimed=8000, little=True),
    "au, zeros behind": odd.au(SOUND, claimed=8000) + bytes(5000),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_lawful_or_harmless_is_read_whole_without_a_word(tmp_path: Path, name: str) -> None:
    info, samples = heard(odd.write(tmp_path, "x", WHOLE[name]))
    assert np.array_equal(samples, SOUND)
    assert (info.sample_rate, codes(info)) == (odd.RATE_HZ, [])


HALF = 4000  # bytes
LONGER: dict[str, bytes] = {
    "wav, half": odd.wav(SOUND, data_claims=HALF, claimed=HALF + 36),
    "wav, half, RIFF right": odd.wav(SOUND, data_claims=HALF),
    "wav, half, chunks behind the audio": odd.wav(SOUND, BEXT, LIST, data_claims=HALF),
    "wav, length 0": odd.wav(SOUND, data_claims=0, claimed=0),
    "wav, length -1": odd.wav(SOUND, data_claims=0xFFFFFFFF, claimed=0xFFFFFFFF),
    "wav, length 0, LIST behind the audio": odd.wav(SOUND, LIST, data_claims=0),
    "wav, one frame": odd.wav(SOUND, data_claims=2),
    "rf64, ds64 zero": odd.rf64(SOUND, ds64=bytes(28)),
    "rf64, ds64 half, bext behind": odd.rf64(SOUND, BEXT, ds64=struct.pack("<QQQI", 4100, HALF, 2000, 0)),
    "w64, half": odd.w64(SOUND, data_claims=HALF + 24),
    "w64, length 0": odd.w64(SOUND, data_claims=0),
    "w64, half, chunk behind": odd.w64(SOUND, odd.w64_chunk(b"bext", bytes(602)), data_claims=HALF + 24),
    "aiff, a quarter": odd.aiff(SOUND.astype(">i2").tobytes(), frames=1000, sound_claims=2008),
    "aiff, COMM alone": odd.aiff(SOUND.astype(">i2").tobytes(), frames=1000),
    "aiff, SSND alone": odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000, sound_claims=2008),
    "aiff, length 0": odd.aiff(SOUND.astype(">i2").tobytes(), frames=0, sound_claims=0),
    "caf, half": odd.caf(SOUND, data_claims=HALF + 4),
    "au, half": odd.au(SOUND, claimed=HALF),
    "au, length 0": odd.au(SOUND, claimed=0),
}


@pytest.mark.parametrize("name", LONGER)
def test_audio_behind_the_claimed_end_is_read_and_said(tmp_path: Path, name: str) -> None:
    path = odd.write(tmp_path, "x", LONGER[name])
    info, samples = heard(path)
    assert np.array_equal(samples, SOUND)
    assert codes(info) == ["input.longer_than_header"]
    assert not fits_header(path)  # a recorder may still be at it


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_audio_behind_the_claimed_end_is_read_in_every_sample_size(tmp_path: Path, bits: int) -> None:
    size = bits // 8
    data = np.random.default_rng(bits).integers(0, 256, 900 * size, np.uint8).tobytes()
    path = odd.write(
        tmp_path, "x.wav", odd.riff(odd.chunk(b"fmt ", odd.fmt(bits=bits)), odd.chunk(b"data", data, claimed=300))
    )
    info, _ = heard(path)
    assert info.frames == 900
    assert codes(info) == ["input.longer_than_header"]


@pytest.mark.parametrize("wraps", [1, 2])
@pytest.mark.parametrize("behind", [b"", LIST])
def test_a_length_that_wrapped_at_4_gb_is_made_out(tmp_path: Path, wraps: int, behind: bytes) -> None:
    path = odd.write(tmp_path, "x.wav", odd.wav(SOUND[:10], data_claims=1000, claimed=1036))
    length = 1000 + wraps * 2**32
    os.truncate(path, 44 + length)  # holes: the samples are zeros
    with path.open("ab") as file:
        file.write(behind)
    info = probe(path)
    assert info.frames == length // 2
    assert codes(info) == ["input.longer_than_header"]


WRAPPED: dict[str, tuple[bytes, int]] = {
    "wav": (odd.wav(SOUND), 0),
    "wav, exactly 4 GB": (odd.wav(SOUND[:0]), 0),
    "rf64, ds64 wrapped": (odd.rf64(SOUND, ds64=struct.pack("<QQQI", 8072, 8000, 4000, 0)), 0),
    "w64": (odd.w64(SOUND), 0),
    "aiff, SSND alone": (odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000 + (2**31)), 0),
    "aiff, COMM too": (odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000), 0),
    "caf": (odd.caf(SOUND), 0),
    "au": (odd.au(SOUND, claimed=8000), 0),
    "au, little endian": (odd.au(SOUND, claimed=8000, little=True), 0),
    "au, exactly 4 GB": (odd.au(SOUND[:0], claimed=0), 0),
    "au, a pad byte": (odd.au(SOUND, claimed=8000), 1),
    "w64, padding": (odd.w64(SOUND[:-1]), 0),
}


@pytest.mark.parametrize("tag", [b"", b"TAG" + b"x" * 125])
@pytest.mark.parametrize("name", WRAPPED)
def test_silence_is_audio_where_it_makes_up_what_a_length_lost_at_4_gb(tmp_path: Path, name: str, tag: bytes) -> None:
    whole, pad = WRAPPED[name]
    path = odd.write(tmp_path, "x", whole)
    samples = 3999 if "padding" in name else 0 if "exactly" in name else 4000
    os.truncate(path, len(whole) + 2**32 + pad)  # holes: the samples are zeros
    with path.open("ab") as file:
        file.write(tag)
    info = probe(path)
    assert info.frames == samples + 2**31
    assert codes(info) == ["input.longer_than_header"]
    assert fits_header(path), "its length was made out: nothing is at it any more"
    if "COMM" not in name:
        assert "32 bits" in info.remarks[0].message


def test_zeros_that_are_no_multiple_of_4_gb_stay_filling(tmp_path: Path) -> None:
    path = odd.write(tmp_path, "x.au", odd.au(SOUND, claimed=8000) + bytes(4096))
    assert probe(path).frames == 4000


NOTHING: dict[str, bytes] = {
    "wav": odd.wav(SOUND[:0]),
    "w64": odd.w64(SOUND[:0]),
    "aiff": odd.aiff(b"", frames=0),
    "caf": odd.caf(SOUND[:0]),
    "au": odd.au(SOUND[:0], claimed=0),
}


@pytest.mark.parametrize(("fill", "said"), [(b"", "its length is zero"), (b"\0", "zeros"), (b"\xff", "ones")])
@pytest.mark.parametrize("name", NOTHING)
def test_a_length_of_zero_says_what_stands_behind_it(tmp_path: Path, name: str, fill: bytes, said: str) -> None:
    path = odd.write(tmp_path, "x", NOTHING[name] + 8000 * fill)
    with pytest.raises(InputEmpty, match=f"holds no audio: .*{said}") as refusal:
        probe(path)
    assert ("8,000 bytes" in str(refusal.value)) == bool(fill)
    assert ("its header is whole" in str(refusal.value)) != bool(fill)


CUT: dict[str, tuple[bytes, int]] = {
    "wav": (odd.wav(SOUND)[:-1001], 3499),
    "wav, chunk before": (
        odd.riff(LIST, odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"data", SOUND.tobytes()))[:-2000],
        3000,
    ),
    "rf64": (odd.rf64(SOUND, ds64=struct.pack("<QQQI", 9000, 8000, 4000, 0))[:-2000], 3000),
    "rf64 of terabytes": (odd.rf64(SOUND, ds64=struct.pack("<QQQI", 2**45, 2**45, 2**44, 0)), 4000),
    "w64": (odd.w64(SOUND)[:-2000], 3000),
    "w64 that claims all there can be": (odd.w64(SOUND, data_claims=2**64 - 8), 4000),
    "aiff": (odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000)[:-2000], 3000),
    "aiff, COMM promises more": (odd.aiff(SOUND.astype(">i2").tobytes(), frames=9000), 4000),
    "caf": (odd.caf(SOUND)[:-2000], 3000),
    "caf that claims all there can be": (odd.caf(SOUND, data_claims=2**63 - 1), 4000),
    "au": (odd.au(SOUND, claimed=8000)[:-2000], 3000),
    "voc": (odd.voc((9, struct.pack("<IBBHI", 8000, 16, 1, 4, 0) + SOUND.tobytes()))[:-2001], 3000),
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_is_refused_unless_what_is_there_is_asked_for(tmp_path: Path, name: str) -> None:
    data, there = CUT[name]
    path = odd.write(tmp_path, "x", data)
    with pytest.raises(InputTruncated, match="promise") as caught:
        probe(path)
    assert "--accept-truncated" in caught.value.remedy
    info, samples = heard(path, accept_truncated=True)
    assert np.array_equal(samples, SOUND[:there])
    assert codes(info) == ["input.cut_short"]


def test_a_file_with_no_sample_of_its_audio_there_is_refused_even_when_cuts_are_accepted(tmp_path: Path) -> None:
    path = odd.write(tmp_path, "x.wav", odd.wav(SOUND)[:44])
    with pytest.raises(InputTruncated):
        probe(path, accept_truncated=True)


def test_accepting_cut_files_changes_nothing_for_whole_ones(tmp_path: Path) -> None:
    info, samples = heard(odd.write(tmp_path, "x.wav", odd.wav(SOUND, LIST)), accept_truncated=True)
    assert np.array_equal(samples, SOUND)
    assert codes(info) == []


MENDED: dict[str, bytes] = {
    "fmt behind data": odd.riff(odd.chunk(b"data", SOUND.tobytes()), odd.chunk(b"fmt ", odd.fmt())),
    "fmt behind data and LIST": odd.riff(odd.chunk(b"data", SOUND.tobytes()), LIST, odd.chunk(b"fmt ", odd.fmt())),
    "two fmt that disagree": odd.riff(
        odd.chunk(b"fmt ", odd.fmt(rate_hz=44_100)), odd.chunk(b"fmt ", odd.fmt()), odd.chunk(b"data", SOUND.tobytes())
    ),
    "block align 0": odd.riff(odd.chunk(b"fmt ", odd.fmt(align=0)), odd.chunk(b"data", SOUND.tobytes())),
    "mono with stereo's block align": odd.riff(
        odd.chunk(b"fmt ", odd.fmt(align=4)), odd.chunk(b"data", SOUND.tobytes())
    ),
    "mono with stereo's block align and byte rate": odd.riff(
        odd.chunk(b"fmt ", odd.fmt(align=4, byte_rate=32_000)), odd.chunk(b"data", SOUND.tobytes())
    ),
    "extensible without its tail": odd.riff(
        odd.chunk(b"fmt ", odd.fmt(tag=0xFFFE, extra=bytes(2))), odd.chunk(b"data", SOUND.tobytes())
    ),
    "aiff, COMM says more and chunks follow": odd.aiff(
        SOUND.astype(">i2").tobytes(), odd.chunk(b"ANNO", b"note", order=">"), frames=9000
    ),
    "a WAV in a WAV": odd.riff(odd.chunk(b"fmt ", odd.fmt(rate_hz=44_100)), odd.chunk(b"data", odd.wav(SOUND))),
    "w64, endless chunk before": odd.w64(SOUND, before=odd.w64_chunk(b"junk", bytes(32), claimed=2**64 - 16)),
    "w64, chunk of 2^63 before": odd.w64(SOUND, before=odd.w64_chunk(b"junk", bytes(32), claimed=2**63)),
    "wav, endless chunk before": odd.riff(
        odd.chunk(b"JUNK", bytes(32), claimed=0xFFFFFFF0),
        odd.chunk(b"fmt ", odd.fmt()),
        odd.chunk(b"data", SOUND.tobytes()),
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_a_header_in_disorder_is_seen_through_and_said(tmp_path: Path, name: str) -> None:
    info, samples = heard(odd.write(tmp_path, "x", MENDED[name]))
    assert np.array_equal(samples, SOUND)
    assert (info.sample_rate, codes(info)) == (odd.RATE_HZ, ["input.header_mended"])


PARTS: dict[str, bytes] = {
    "two data chunks": odd.riff(
        odd.chunk(b"fmt ", odd.fmt()),
        odd.chunk(b"data", SOUND[:1500].tobytes()),
        odd.chunk(b"data", SOUND[1500:].tobytes()),
    ),
    "two data chunks, LIST between": odd.riff(
        odd.chunk(b"fmt ", odd.fmt()),
        odd.chunk(b"data", SOUND[:1500].tobytes()),
        LIST,
        odd.chunk(b"data", SOUND[1500:].tobytes()),
    ),
    "files joined": odd.wav(SOUND[:1000]) + odd.wav(SOUND[1000:2500]) + odd.wav(SOUND[2500:]),
    "files joined, with chunks behind each": odd.wav(SOUND[:1000], LIST) + odd.wav(SOUND[1000:], BEXT),
    "caf files joined": odd.caf(SOUND[:1000]) + odd.caf(SOUND[1000:]),
    "w64 files joined": odd.w64(SOUND[:1000]) + odd.w64(SOUND[1000:]),
    "two SSND": odd.aiff(
        SOUND[:1000].astype(">i2").tobytes(),
        odd.chunk(b"SSND", bytes(8) + SOUND[1000:].astype(">i2").tobytes(), order=">"),
        frames=4000,
    ),
    "voc files joined": odd.voc((9, struct.pack("<IBBHI", 8000, 16, 1, 4, 0) + SOUND[:1000].tobytes()))
    + odd.voc((9, struct.pack("<IBBHI", 8000, 16, 1, 4, 0) + SOUND[1000:].tobytes())),
    "aiff files joined": odd.aiff(SOUND[:1000].astype(">i2").tobytes(), frames=1000)
    + odd.aiff(SOUND[1000:].astype(">i2").tobytes(), frames=3000),
}


@pytest.mark.parametrize("name", PARTS)
def test_all_parts_of_a_file_are_read_and_said(tmp_path: Path, name: str) -> None:
    info, samples = heard(odd.write(tmp_path, "x", PARTS[name]))
    assert np.array_equal(samples, SOUND)
    assert codes(info) == ["input.several_parts"]


def test_joined_files_of_two_rates_are_each_at_their_own_pitch(tmp_path: Path) -> None:
    tone = (9000 * np.sin(2 * np.pi * 500 * np.arange(8000) / 8000)).astype(np.int16)[:, None]
    fast = odd.riff(
        odd.chunk(b"fmt ", odd.fmt(rate_hz=16_000)), odd.chunk(b"data", np.repeat(tone, 2, axis=0).tobytes())
    )
    info, samples = heard(odd.write(tmp_path, "x.wav", odd.wav(tone) + fast))
    assert (info.sample_rate, info.frames) == (16_000, 32_000)
    for second in (samples[2000:14_000, 0], samples[18_000:30_000, 0]):
        spectrum = np.abs(np.fft.rfft(second * np.hanning(len(second))))
        assert np.argmax(spectrum) * 16_000 / len(second) == pytest.approx(500, abs=3)


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (b"<html><body>not found</body></html>\n" * 20, "web page"),
        (b"logged by station 4, 12 dB\r\n" * 20, "text"),
        (b"%PDF-1.4 " + bytes(range(1, 256)) * 8, "PDF"),
        (b"ID3\3\0\0\0\0\0\x10" + bytes(16) + b"\xff\xfb\x90\x44" + bytes(range(1, 256)) * 8, "MPEG"),
    ],
)
def test_what_stands_behind_and_is_no_audio_is_left_out_and_said(tmp_path: Path, behind: bytes, words: str) -> None:
    info, samples = heard(odd.write(tmp_path, "x.wav", odd.wav(SOUND) + behind))
    assert np.array_equal(samples, SOUND)
    assert codes(info) == ["input.bytes_left_out"]
    assert words in info.remarks[0].message


@pytest.mark.parametrize(
    "behind", [odd.au(SOUND, claimed=8000), odd.caf(SOUND), odd.aiff(SOUND.astype(">i2").tobytes(), frames=4000)]
)
def test_a_file_of_another_kind_behind_the_audio_is_read(tmp_path: Path, behind: bytes) -> None:
    info, samples = heard(odd.write(tmp_path, "x.wav", odd.wav(SOUND) + behind))
    assert np.array_equal(samples, np.concatenate([SOUND, SOUND]))
    assert codes(info) == ["input.joined"]


@pytest.mark.parametrize(("first", "words"), [(b"OggS\0\2", "Ogg"), (b"\0\0\0\x20ftypM4A ", "MPEG-4")])
def test_what_begins_as_a_file_behind_the_audio_and_cannot_be_decoded_is_refused(
    tmp_path: Path, first: bytes, words: str
) -> None:
    path = odd.write(tmp_path, "x.wav", odd.wav(SOUND) + first + bytes(range(1, 256)) * 8)
    with pytest.raises(InputFormat, match=f"bytes of another file \\({words}.* are joined in it at byte 8,044"):
        probe(path)


def test_an_endless_chunk_behind_the_audio_of_a_caf_is_left_out_and_said(tmp_path: Path) -> None:
    info, samples = heard(
        odd.write(tmp_path, "x.caf", odd.caf(SOUND, odd.caf_chunk(b"zzzz", bytes(500), claimed=2**63 - 9)))
    )
    assert np.array_equal(samples, SOUND)
    assert codes(info) == ["input.bytes_left_out"]


def test_24_bit_samples_behind_an_offset_are_not_shifted(tmp_path: Path) -> None:
    values = np.random.default_rng(5).integers(-(2**23), 2**23, 501)
    data = b"".join(int(v).to_bytes(3, "big", signed=True) for v in values)
    path = odd.write(tmp_path, "x.aiff", odd.aiff(b"\x11" * 7 + data, frames=501, bits=24, offset=7))
    with Source.open(path) as source:
        samples = np.concatenate(list(source.blocks()))[:, 0]
    assert np.array_equal(np.rint(samples * 2**23), values)


def test_24_bit_odd_data_without_a_pad_byte_ends_where_it_should(tmp_path: Path) -> None:
    data = np.random.default_rng(6).integers(0, 256, 3 * 4001, np.uint8).tobytes()
    path = odd.write(
        tmp_path, "x.wav", odd.riff(odd.chunk(b"fmt ", odd.fmt(bits=24)), odd.chunk(b"data", data, pad=False), LIST)
    )
    info, _ = heard(path)
    assert (info.frames, codes(info)) == (4001, [])


@pytest.mark.parametrize(
    ("codec", "subtype", "size"),
    [(b"fl32", "FLOAT", 4), (b"FL64", "DOUBLE", 8), (b"in24", "PCM_24", 3), (b"ulaw", "ULAW", 1)],
)
def test_the_codec_of_an_aifc_says_how_large_samples_are_and_not_its_bits(
    tmp_path: Path, codec: bytes, subtype: str, size: int
) -> None:
    path = odd.write(tmp_path, "x.aifc", odd.aiff(bytes(size * 2 * 700), frames=700, channels=2, bits=16, codec=codec))
    info = probe(path)
    assert (info.frames, info.channels, info.subtype, codes(info)) == (700, 2, subtype, [])


@pytest.mark.parametrize("rate", [22_254.545454545454, 11_127.272727, 7_350.5])
@pytest.mark.parametrize("make", [odd.aiff, odd.caf], ids=["aiff", "caf"])
def test_a_rate_that_is_no_whole_number_is_kept_exactly(tmp_path: Path, rate: float, make: object) -> None:
    frames = 200_000
    samples = np.zeros((frames, 1), np.int16)
    data = odd.aiff(samples.tobytes(), frames=frames, rate=rate) if make is odd.aiff else odd.caf(samples, rate=rate)
    info = probe(odd.write(tmp_path, "x", data))
    assert abs(info.samples_at() - frames * 48_000 / rate) <= 1
    assert info.duration_s == pytest.approx(frames / rate, rel=1e-9)


VOICE = np.random.default_rng(8).integers(-100, 100, (2000, 2)).astype(np.int8)


def test_an_8svx_in_stereo_has_its_sides_one_behind_the_other(tmp_path: Path) -> None:
    body = VOICE[:, 0].tobytes() + VOICE[:, 1].tobytes()
    info, samples = heard(odd.write(tmp_path, "x.8svx", odd.svx(body, once=2000, stereo=True)))
    assert (info.channels, info.frames) == (2, 2000)
    assert np.array_equal(samples // 256, VOICE)


@pytest.mark.parametrize("stereo", [False, True])
def test_fibonacci_deltas_are_decoded(tmp_path: Path, stereo: bool) -> None:
    table = [-34, -21, -13, -8, -5, -3, -2, -1, 0, 1, 2, 3, 5, 8, 13, 21]
    expected, body = [], b""
    for side in range(1 + stereo):
        codes = np.random.default_rng(side).integers(0, 16, 1000)
        value, values = -5, []
        for code in codes:  # the slow reference
            value = (value + table[code] + 128) % 256 - 128
            values.append(value)
        expected.append(values)
        body += bytes([0, value_byte(-5)]) + bytes(int(a << 4 | b) for a, b in codes.reshape(-1, 2))
    info, samples = heard(odd.write(tmp_path, "x.8svx", odd.svx(body, once=1000, compression=1, stereo=stereo)))
    assert info.frames == 1000
    assert np.array_equal(samples // 256, np.array(expected).T)


def value_byte(value: int) -> int:
    return value & 0xFF


def test_only_the_first_octave_of_an_8svx_instrument_is_heard(tmp_path: Path) -> None:
    body = VOICE[:, 0].tobytes() + bytes(4000)
    info, samples = heard(odd.write(tmp_path, "x.8svx", odd.svx(body, once=2000, octaves=2)))
    assert np.array_equal(samples[:, 0] // 256, VOICE[:, 0])
    assert codes(info) == ["input.bytes_left_out"]


def test_blocks_of_a_voc_go_on_each_other_with_silence_between(tmp_path: Path) -> None:
    voice = np.random.default_rng(9).integers(0, 256, 1000).astype(np.uint8)
    head = bytes([256 - 100, 0])  # 10 kHz
    data = odd.voc(
        (1, head + voice[:600].tobytes()),
        (4, b"\1\0"),
        (2, voice[600:].tobytes()),
        (3, b"\x63\0\x9c"),
        (1, head + b"\x80"),
    )
    info, samples = heard(odd.write(tmp_path, "x.voc", data))
    assert (info.sample_rate, info.frames) == (10_000, 1101)
    assert np.array_equal(samples[:1000, 0] // 256 + 128, voice)
    assert not samples[1000:].any()


def test_a_voc_of_two_rates_keeps_both_pitches(tmp_path: Path) -> None:
    def block(rate_hz: int) -> tuple[int, bytes]:
        tone = (9000 * np.sin(2 * np.pi * 500 * np.arange(rate_hz // 2) / rate_hz)).astype("<i2")
        return 9, struct.pack("<IBBHI", rate_hz, 16, 1, 4, 0) + tone.tobytes()

    info, samples = heard(odd.write(tmp_path, "x.voc", odd.voc(block(22_050), block(11_025))))
    assert codes(info) == ["input.several_parts"]
    assert abs(info.frames - 22_050) <= 2
    for part in (samples[1000:10_000, 0], samples[12_500:21_500, 0]):
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        assert np.argmax(spectrum) * 22_050 / len(part) == pytest.approx(500, abs=4)


def adpcm(tag: int, blocks: int, *facts: bytes) -> bytes:
    extra = struct.pack("<HH", 2, 505) if tag == 0x11 else b""
    form = odd.fmt(
        bits=4 if tag == 0x11 else 0,
        tag=tag,
        align=256 if tag == 0x11 else 65,
        extra=extra or struct.pack("<HH", 2, 320),
    )
    data = bytes((256 if tag == 0x11 else 65) * blocks)
    return odd.riff(odd.chunk(b"fmt ", form), *facts, odd.chunk(b"data", data))


@pytest.mark.parametrize(("tag", "block"), [(0x11, 505), (0x31, 320)])
@pytest.mark.parametrize(
    ("fact", "frames", "said"),
    [
        (lambda whole, block: whole - 100, lambda whole, fact: fact, []),
        (lambda whole, block: whole, lambda whole, fact: whole, []),
        (lambda whole, block: 0, lambda whole, fact: whole, []),
        (lambda whole, block: 10 * whole, lambda whole, fact: whole, ["input.longer_fact"]),
        (lambda whole, block: whole - 3 * block, lambda whole, fact: whole, ["input.longer_than_header"]),
    ],
    ids=["inside the last block", "whole", "zero", "ten times", "three blocks short"],
)
def test_the_fact_chunk_says_where_the_last_block_ends_and_nothing_else(
    tmp_path: Path, tag: int, block: int, fact: object, frames: object, said: list[str]
) -> None:
    whole = 8 * block
    claimed = fact(whole, block)  # type: ignore[operator]
    path = odd.write(tmp_path, "x.wav", adpcm(tag, 8, odd.chunk(b"fact", struct.pack("<I", claimed))))
    info, samples = heard(path)
    assert info.frames == len(samples) == frames(whole, claimed)  # type: ignore[operator]
    assert codes(info) == said


def test_a_list_of_waves_is_refused_by_its_name(tmp_path: Path) -> None:
    waves = odd.chunk(b"LIST", b"wavl" + odd.chunk(b"data", SOUND.tobytes()) + odd.chunk(b"slnt", bytes(4)))
    with pytest.raises(InputFormat, match="wavl"):
        probe(odd.write(tmp_path, "x.wav", odd.riff(odd.chunk(b"fmt ", odd.fmt()), waves)))


@pytest.mark.parametrize(
    ("tag", "name"),
    [(0x45, "G.726"), (0x22, "TrueSpeech"), (0x161, "Windows Media"), (0x42, "G.723.1"), (0x4321, "0x4321")],
)
def test_a_codec_that_nobody_decodes_is_named(tmp_path: Path, tag: int, name: str) -> None:
    data = odd.riff(odd.chunk(b"fmt ", odd.fmt(tag=tag, extra=bytes(2))), odd.chunk(b"data", bytes(4000)))
    with pytest.raises(InputFormat, match=name):
        probe(odd.write(tmp_path, "x.wav", data))


@pytest.mark.parametrize(
    ("tag", "bits", "words"), [(1, 64, "whole numbers of 64"), (3, 16, "floats of 16"), (3, 24, "floats of 24")]
)
def test_an_encoding_that_nobody_decodes_is_named(tmp_path: Path, tag: int, bits: int, words: str) -> None:
    data = odd.riff(odd.chunk(b"fmt ", odd.fmt(1, bits, tag=tag)), odd.chunk(b"data", SOUND.tobytes()))
    with pytest.raises(InputFormat, match=words):
        probe(odd.write(tmp_path, "x.wav", data))


def test_a_header_of_no_channels_is_not_told_to_be_split(tmp_path: Path) -> None:
    data = odd.riff(odd.chunk(b"fmt ", odd.fmt(0)), odd.chunk(b"data", SOUND.tobytes()))
    with pytest.raises(InputLimits, match="0 channels") as caught:
        probe(odd.write(tmp_path, "x.wav", data))
    assert "split" not in caught.value.remedy


@pytest.mark.parametrize("name", ["wav", "aiff", "w64", "caf"])
def test_a_file_that_says_nothing_of_its_encoding_is_refused_by_the_missing_chunk(tmp_path: Path, name: str) -> None:
    data = {
        "wav": odd.riff(odd.chunk(b"data", SOUND.tobytes())),
        "aiff": odd.aiff(SOUND.tobytes(), frames=4000).replace(b"COMM", b"ANNO"),
        "w64": odd.w64(SOUND).replace(b"fmt " + odd.W64_TAIL, b"zzzz" + odd.W64_TAIL),
        "caf": odd.caf(SOUND).replace(b"desc", b"free"),
    }[name]
    with pytest.raises(InputFormat, match=r"no (fmt|desc|COMM) chunk"):
        probe(odd.write(tmp_path, "x", data))


@pytest.mark.parametrize("behind", [b"", LIST, BEXT + LIST])
def test_an_empty_audio_chunk_is_empty_whatever_stands_behind(tmp_path: Path, behind: bytes) -> None:
    with pytest.raises(InputEmpty):
        probe(odd.write(tmp_path, "x.wav", odd.wav(SOUND[:0], behind)))


@pytest.mark.parametrize("coding", ["ulaw,embedded-shorten-v2.00", "pcm,embedded-wavpack"])
def test_compressed_sphere_is_refused_as_compressed(tmp_path: Path, coding: str) -> None:
    fields = "sample_count -i 8000\nsample_n_bytes -i 1\nchannel_count -i 1\n"
    text = f"NIST_1A\n   1024\n{fields}sample_coding -s{len(coding)} {coding}\nend_head\n"
    with pytest.raises(InputFormat, match="compressed") as caught:
        probe(odd.write(tmp_path, "x.sph", text.encode().ljust(1024) + bytes(range(256)) * 4))
    assert "sph2pipe" in caught.value.remedy


@pytest.mark.parametrize("rate_hz", [8000, 48_000])
def test_a_rate_of_16_bit_samples_that_look_like_letters_is_still_audio(tmp_path: Path, rate_hz: int) -> None:
    """Eight-bit samples are often letters; that does not make them a chunk."""
    rng = np.random.default_rng(rate_hz)
    for _ in range(30):
        data = (128 + 40 * np.sin(np.cumsum(rng.uniform(0.1, 0.3, 2000)))).astype(np.uint8)
        data[1000:1004] = rng.integers(65, 91, 4)
        bytes_ = odd.riff(
            odd.chunk(b"fmt ", odd.fmt(bits=8, rate_hz=rate_hz)),
            odd.chunk(b"data", data.tobytes(), claimed=1000),
            claimed=1036,
        )
        assert probe(odd.write(tmp_path, "x.wav", bytes_)).frames == 2000


def test_letters_behind_a_claimed_end_are_samples_of_8_bits_also_where_the_file_says_its_right_length(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        data = (128 + 40 * np.sin(np.cumsum(rng.uniform(0.1, 0.3, 2000)))).astype(np.uint8)
        data[1000:1008] = rng.integers(65, 91, 8)
        fmt = odd.chunk(b"fmt ", odd.fmt(bits=8))
        path = odd.write(tmp_path, "x.wav", odd.riff(fmt, odd.chunk(b"data", data.tobytes(), claimed=1000)))
        info, samples = heard(path)
        assert info.frames == len(samples) == 2000
        assert codes(info) == ["input.longer_than_header"]


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0x80000000, 0x7FFFF000])
def test_a_length_that_was_never_filled_in_is_no_cut_file(tmp_path: Path, length: int) -> None:
    fmt = odd.chunk(b"fmt ", odd.fmt())
    path = odd.write(tmp_path, "x.wav", odd.riff(fmt, odd.chunk(b"data", SOUND.tobytes(), claimed=length)))
    info, samples = heard(path)
    assert info.frames == len(samples) == len(SOUND)
    assert codes(info) == ["input.longer_than_header"]


def test_a_long_length_that_was_never_filled_in_is_no_cut_file(tmp_path: Path) -> None:
    data = odd.rf64(SOUND, ds64=struct.pack("<QQQI", *(2**64 - 1,) * 3, 0))
    info, samples = heard(odd.write(tmp_path, "x.wav", data))
    assert info.frames == len(samples) == len(SOUND)
    assert codes(info) == ["input.longer_than_header"]


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_what_fills_up_a_disks_block_is_not_heard(tmp_path: Path, fill: bytes) -> None:
    fmt = odd.chunk(b"fmt ", odd.fmt())
    info, _ = heard(odd.write(tmp_path, "x.wav", odd.riff(fmt, odd.chunk(b"data", SOUND.tobytes())) + fill * 4096))
    assert info.frames == len(SOUND)
    assert codes(info) == []


def test_quiet_samples_of_8_bits_behind_a_claimed_end_are_no_text(tmp_path: Path) -> None:
    quiet = np.random.default_rng(6).integers(121, 126, 9000).astype(np.uint8)
    fmt = odd.chunk(b"fmt ", odd.fmt(bits=8))
    path = odd.write(tmp_path, "x.wav", odd.riff(fmt, odd.chunk(b"data", quiet.tobytes(), claimed=2000)))
    info, samples = heard(path)
    assert info.frames == len(samples) == 9000
    assert codes(info) == ["input.longer_than_header"]


def test_files_joined_of_8svx_are_all_read(tmp_path: Path) -> None:
    data = odd.svx(VOICE[:, 0].tobytes(), once=2000) * 2
    info, samples = heard(odd.write(tmp_path, "x.8svx", data))
    assert np.array_equal(samples[:, 0] // 256, np.tile(VOICE[:, 0], 2))
    assert codes(info) == ["input.joined"]


@pytest.mark.parametrize("tag", [0x11, 0x31])
def test_a_block_codec_is_read_behind_its_claimed_end_and_where_it_is_cut(tmp_path: Path, tag: int) -> None:
    whole = adpcm(tag, 8)
    start = whole.index(b"data") + 8
    block, samples = (256, 505) if tag == 0x11 else (65, 320)
    short = whole[: start - 4] + struct.pack("<I", 3 * block) + whole[start:]
    short = short[:4] + struct.pack("<I", start - 8 + 3 * block) + short[8:]
    filled = short[:start] + bytes(range(1, 9)) * block + short[start + 8 * block :]
    info, heard_samples = heard(odd.write(tmp_path, "x.wav", filled))
    assert info.frames == len(heard_samples) == 8 * samples
    assert codes(info) == ["input.longer_than_header"]
    path = odd.write(tmp_path, "y.wav", whole[: start + 5 * block])
    with pytest.raises(InputTruncated):
        probe(path)
    info, _ = heard(path, accept_truncated=True)
    assert info.frames == 5 * samples


@pytest.mark.parametrize(("loops", "said"), [(1, "1 mark that tells a player"), (2, "2 marks that tell a player")])
def test_one_mark_and_several_are_counted_in_their_right_form(tmp_path: Path, loops: int, said: str) -> None:
    sound = (9, struct.pack("<IBBHI", 8000, 16, 1, 4, 0) + SOUND.tobytes())
    info, _ = heard(odd.write(tmp_path, "x.voc", odd.voc(*[(6, struct.pack("<H", 3))] * loops, sound)))
    assert any(said in remark.message for remark in info.remarks)
