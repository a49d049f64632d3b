"""The fmt chunk of the RIFF family: what it says a sample is.

Sources: Microsoft, Multimedia Programming Interface (1991), WAVEFORMATEXTENSIBLE, and mmreg.h for codecs' numbers.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Final

from batchsr.audio.decoders.raw import Samples

PCM, MS_ADPCM, FLOAT, ALAW, ULAW, IMA_ADPCM, GSM, MP3, EXTENSIBLE = 1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFFFE
CODECS: Final = {
    0x0002: "MS ADPCM",
    0x0010: "OKI ADPCM",
    0x0011: "IMA ADPCM",
    0x0014: "G.723 ADPCM",
    0x0016: "G.723 ADPCM",
    0x0017: "Dialogic OKI ADPCM",
    0x0020: "Yamaha ADPCM",
    0x0022: "DSP Group TrueSpeech",
    0x0031: "GSM 6.10",
    0x0040: "G.721 ADPCM",
    0x0041: "G.728 CELP",
    0x0042: "Microsoft G.723.1",
    0x0045: "G.726 ADPCM",
    0x0050: "MPEG Layer I or II",
    0x0055: "MPEG Layer III",
    0x0061: "Duck DK4 ADPCM",
    0x0062: "Duck DK3 ADPCM",
    0x0064: "G.726 ADPCM",
    0x0065: "G.722 ADPCM",
    0x0069: "Xbox IMA ADPCM",
    0x0070: "Lernout & Hauspie CELP",
    0x0083: "G.729",
    0x0085: "G.726 ADPCM",
    0x00FF: "AAC",
    0x0111: "Vivo G.723.1",
    0x0125: "Sanyo LD-ADPCM",
    0x0130: "Sipro ACELP",
    0x0140: "G.726 ADPCM",
    0x0160: "Windows Media Audio 1",
    0x0161: "Windows Media Audio 2",
    0x0162: "Windows Media Audio Pro",
    0x0163: "Windows Media Audio Lossless",
    0x0200: "Creative ADPCM",
    0x0270: "ATRAC3",
    0x0401: "Intel Music Coder",
    0x0402: "Indeo Audio",
    0x1600: "AAC",
    0x1610: "HE-AAC",
    0x2000: "AC-3",
    0x2001: "DTS",
    0x674F: "Ogg Vorbis",
    0x6750: "Ogg Vorbis",
    0x6751: "Ogg Vorbis",
    0x676F: "Ogg Vorbis",
    0x6770: "Ogg Vorbis",
    0x6771: "Ogg Vorbis",
    0x7A21: "AMR-NB",
    0x7A22: "AMR-WB",
    0xA100: "G.723.1",
    0xA109: "Speex",
    0xF1AC: "FLAC",
}
"""Names of what a fmt chunk's number may say."""


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """A fmt chunk."""

    body: bytes
    tag: int
    """The codec's number; of an extensible one that of its sub-format."""
    channels: int
    rate_hz: int
    block_bytes: int
    bits: int
    extensible: bool
    big_endian: bool

    @classmethod
    def of(cls, body: bytes, big_endian: bool) -> Format | None:
        """Read a fmt chunk's body; None where it is cut."""
        if len(body) < 14:
            return None
        endian = ">" if big_endian else "<"
        tag, channels, rate_hz, _, block_bytes = struct.unpack_from(endian + "HHIIH", body)
        bits = struct.unpack_from(endian + "H", body, 14)[0] if len(body) >= 16 else 0
        extensible = tag == EXTENSIBLE
        if extensible and len(body) >= 26:
            (tag,) = struct.unpack_from(endian + "H", body, 24)
        return cls(body, tag, channels, rate_hz, block_bytes, bits, extensible, big_endian)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of one channel, where the codec has such; 0 else."""
        if self.tag in (ALAW, ULAW):
            return 1
        if self.tag not in (PCM, FLOAT) or not self.channels:
            return 0
        bits = self.bits or 8 * self.block_bytes // self.channels
        if self.tag == FLOAT:
            return {32: 4, 64: 8}.get(bits, 0)
        if bits == 24 and self.block_bytes == 4 * self.channels:
            return 4  # 24 bits in 32, as libsndfile takes it too
        return -(-bits // 8) if 1 <= bits <= 32 else 0

    @property
    def frame_samples(self) -> int:
        """Samples of one channel in a block of the block codecs, 0 where it does not say."""
        if self.tag == GSM:
            return 320
        if self.tag in (MS_ADPCM, IMA_ADPCM) and len(self.body) >= 20:
            return int(struct.unpack_from(">H" if self.big_endian else "<H", self.body, 18)[0])
        return 0

    def samples(self, container: str) -> Samples | None:
        """Return what its samples are; None for codecs of blocks."""
        size = self.sample_bytes
        if not size or not 1 <= self.channels <= 1024:
            return None
        subtype = {PCM: ("PCM_U8", "PCM_16", "PCM_24", "PCM_32")[min(size, 4) - 1], ALAW: "ALAW", ULAW: "ULAW"}.get(
            self.tag, "DOUBLE" if size == 8 else "FLOAT"
        )
        name = {"RIFX": "WAV", "BW64": "RF64"}.get(container, container)
        name = "WAVEX" if name == "WAV" and self.extensible else name
        return Samples(name, subtype, "BIG" if self.big_endian else "LITTLE", self.rate_hz, self.channels, size)

    def same_sound(self, other: Format) -> bool:
        """Return whether both describe the same samples."""
        ours, theirs = self.samples(""), other.samples("")
        return ours == theirs if ours is not None and theirs is not None else self.body == other.body
