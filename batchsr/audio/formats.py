"""The table of formats: for each its extensions, first bytes, reader, writer, sample formats and metadata.

What a folder's search takes, what the command line offers, what error messages name and docs/formats.md all come from
here. An extension is a hint: what a file is, its bytes decide.

To add a format: a row here, and where libsndfile does not know its length a parser in batchsr.audio.containers.

Longer than other modules: most of it is the table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Literal

Reader = Literal["libsndfile", "ffmpeg", "nothing"]
"""Who decodes a format. ffmpeg's are read where ffmpeg is on the machine. nothing: the file cannot say what it is."""


SAMPLE_BYTES: Final[Mapping[str, int]] = MappingProxyType({"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4})
"""Bytes of a sample that stands in a file as it is, by libsndfile's names."""


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """How a format is written."""

    key: str
    """Its name in `format`, and the extension of outputs."""
    subtypes: tuple[str, ...]
    """Sample formats it takes, by libsndfile's names."""
    natural: str
    """The one that is taken where nothing was asked for."""
    tags: tuple[str, ...] = ()
    """Texts about a recording that libsndfile writes into it."""
    metadata: str = ""
    """What of a recording's metadata goes into it, where that is not its tags alone."""
    channels: int = 1024
    """How many it takes at most."""
    rates_hz: tuple[int, ...] = ()
    """The only sample rates that it can be at; empty: any."""
    packing: Literal["none", "lossless", "lossy"] = "none"
    """Whether its samples stand in it as they are, so that its size is known beforehand."""
    level: float | None = None
    """libsndfile's compression level. Fixed, so that a new default of the library does not change our files."""
    copy_bytes_a_second: int = 0
    """Of one channel, at most, as a copy for access; 0: no copy is made in it."""
    signable: bool = False
    """Whether content credentials can be put into it."""

    @property
    def carried(self) -> str:
        """What of a recording's metadata goes into it, in words."""
        return self.metadata or ", ".join(tag.replace("tracknumber", "track number") for tag in self.tags) or "none"

    def takes_rate(self, rate_hz: int) -> bool:
        """Return whether a file of it can be at this rate."""
        return not self.rates_hz or rate_hz in self.rates_hz


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """One format of sound files."""

    title: str
    extensions: tuple[str, ...]
    """In lower case, with the dot; the first is the usual one."""
    reader: Reader
    length_from: str
    """What says how long a file is, and what is compared with what is there."""
    samples: str = ""
    """Which encodings are read."""
    metadata: str = "none"
    """What of its metadata is understood."""
    written: Written | None = None
    magic: tuple[tuple[int, bytes], ...] = ()
    """(position, bytes) of which any one tells the format."""
    mime: str = ""
    """Its media type, where browsers may know it."""
    options: str = ""
    """What ffmpeg has to be told, where nothing in the file says it."""


_PCM: Final = ("PCM_16", "PCM_24", "PCM_32")
_CHUNKS: Final = "chunks, against the file's size"
_BLOCKS: Final = "IMA, MS ADPCM, GSM 6.10"
_BY_FFMPEG: Final = "as ffmpeg reads it"
_TAGS: Final = ("title", "artist", "album", "date", "genre", "comment", "copyright", "license", "tracknumber")

FORMATS: Final[tuple[Format, ...]] = (
    Format(
        "WAV, Broadcast WAV, RIFX",
        (".wav", ".wave", ".bwf"),
        "libsndfile",
        _CHUNKS,
        f"PCM 8 to 32 bit, float, double, A-law, mu-law, {_BLOCKS}, NMS, G.721, MP3",
        "LIST/INFO, bext, iXML, axml, cart, cue and adtl, ID3",
        Written(
            "wav",
            (*_PCM, "FLOAT"),
            "PCM_24",
            metadata="LIST/INFO, bext, iXML, axml, cart, cue and adtl, loudspeakers",
            signable=True,
        ),
        ((0, b"RIFF"), (0, b"RIFX")),
        "audio/wav",
    ),
    Format(
        "RF64, BW64",
        (".rf64", ".bw64"),
        "libsndfile",
        "ds64 and chunks, against the file's size",
        "as WAV",
        "as WAV",
        magic=((0, b"RF64"), (0, b"BW64")),
    ),
    Format(
        "Wave64",
        (".w64",),
        "libsndfile",
        _CHUNKS,
        "as WAV",
        "bext, LIST/INFO",
        Written("w64", (*_PCM, "FLOAT"), "PCM_24"),
        ((0, b"riff\x2e\x91\xcf\x11"),),
        "audio/x-w64",
    ),
    Format(
        "AIFF, AIFF-C",
        (".aiff", ".aif", ".aifc"),
        "libsndfile",
        _CHUNKS,
        "PCM 8 to 32 bit of either byte order, float, double, A-law, mu-law, IMA, GSM 6.10, DWVW",
        "NAME, AUTH, (c), ANNO, MARK, ID3",
        Written("aiff", (*_PCM, "FLOAT"), "PCM_24", ("title", "artist", "comment")),
        ((0, b"FORM"),),
        "audio/aiff",
    ),
    Format(
        "IFF 8SVX, 16SV",
        (".iff", ".svx", ".8svx", ".16sv"),
        "libsndfile",
        _CHUNKS,
        "PCM 8 and 16 bit, Fibonacci-delta",
        "NAME, AUTH, (c), ANNO",
    ),
    Format(
        "Core Audio",
        (".caf",),
        "libsndfile",
        _CHUNKS,
        "PCM 8 to 32 bit of either byte order, float, double, A-law, mu-law, ALAC",
        "info",
        Written("caf", (*_PCM, "FLOAT"), "PCM_24", _TAGS),
        ((0, b"caff"),),
    ),
    Format(
        "Sun and NeXT",
        (".au", ".snd"),
        "libsndfile",
        "its header, against the file's size",
        "PCM 8 to 32 bit, float, double, A-law, mu-law, G.721, G.723",
        magic=((0, b".snd"), (0, b"dns.")),
    ),
    Format(
        "NIST SPHERE",
        (".sph", ".nist"),
        "libsndfile",
        "its header, against the file's size",
        "PCM 8 to 32 bit of either byte order, A-law, mu-law; not shorten",
        magic=((0, b"NIST_1A"),),
    ),
    Format(
        "Creative Voice",
        (".voc",),
        "libsndfile",
        "its blocks, each at its own rate",
        "PCM 8 and 16 bit, A-law, mu-law, silence",
        magic=((0, b"Creative Voice File\x1a"),),
    ),
    Format("Ensoniq PARIS", (".paf",), "libsndfile", "its header", "PCM", magic=((0, b" paf"), (0, b"fap "))),
    Format(
        "FLAC",
        (".flac",),
        "libsndfile",
        "its frames",
        "8 to 24 bit",
        "Vorbis comments, ID3",
        Written(
            "flac",
            ("PCM_16", "PCM_24"),
            "PCM_24",
            _TAGS,
            channels=8,
            packing="lossless",
            level=0.625,  # its level 5
            copy_bytes_a_second=3 * 48_000,
            signable=True,
        ),
        ((0, b"fLaC"),),
        "audio/flac",
    ),
    Format(
        "Ogg: Vorbis, Opus, FLAC",
        (".ogg", ".oga"),
        "libsndfile",
        "its pages",
        "Vorbis, Opus, FLAC",
        "Vorbis comments",
        Written("ogg", ("VORBIS",), "VORBIS", _TAGS, channels=255, packing="lossy", level=0.2),  # quality 8
        ((0, b"OggS"),),
        "audio/ogg",
    ),
    Format(
        "Opus",
        (".opus",),
        "libsndfile",
        "its pages",
        "Opus in Ogg",
        "Vorbis comments",
        Written(
            "opus",
            ("OPUS",),
            "OPUS",
            _TAGS,
            channels=8,
            rates_hz=(8_000, 12_000, 16_000, 24_000, 48_000),
            packing="lossy",
            level=0.65,  # 94 kbit/s a channel
            copy_bytes_a_second=16_000,
        ),
        mime="audio/ogg",
    ),
    Format(
        "Ogg beside pictures",
        (".ogv", ".ogx", ".ogm"),
        "libsndfile",
        "its pages",
        "Vorbis, Opus, FLAC",
        "Vorbis comments",
    ),
    Format("IRCAM", (".sf", ".ircam"), "libsndfile", "its header", "PCM 16 and 32 bit, float, A-law, mu-law"),
    Format(
        "MPEG audio, Layer III",
        (".mp3",),
        "libsndfile",
        "its frames",
        "MPEG-1, 2 and 2.5, of constant and variable rate, free format",
        "ID3, APE tags",
        Written(
            "mp3",
            ("MPEG_LAYER_III",),
            "MPEG_LAYER_III",
            _TAGS[:6],
            channels=2,
            rates_hz=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
            packing="lossy",
            level=0.2,  # of variable rate, near V2
            copy_bytes_a_second=40_000,
            signable=True,
        ),
        ((0, b"ID3"),),
        "audio/mpeg",
    ),
    Format(
        "MPEG audio, Layers I and II",
        (".mp2", ".mpga", ".mp1", ".m2a", ".mpa"),
        "libsndfile",
        "its frames",
        "MPEG-1 and 2, of constant and variable rate",
        "ID3, APE tags",
    ),
    Format(
        "MPEG-4",
        (".m4a", ".m4b", ".m4r", ".mp4", ".mov", ".3gp", ".3g2", ".3ga"),
        "ffmpeg",
        _BY_FFMPEG,
        "AAC, ALAC, AMR and others",
        magic=((4, b"ftyp"), (4, b"moov"), (4, b"mdat")),
        mime="audio/mp4",
    ),
    Format("AAC, headerless", (".aac", ".adts", ".loas", ".latm"), "ffmpeg", _BY_FFMPEG, "AAC"),
    Format(
        "Windows Media",
        (".wma", ".asf", ".wmv"),
        "ffmpeg",
        _BY_FFMPEG,
        "WMA and others",
        magic=((0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),),
    ),
    Format(
        "Matroska, WebM",
        (".mka", ".mkv", ".webm", ".weba"),
        "ffmpeg",
        _BY_FFMPEG,
        "Opus, Vorbis, AAC, FLAC and others",
        magic=((0, b"\x1a\x45\xdf\xa3"),),
    ),
    Format("AVI, DV", (".avi", ".dv"), "ffmpeg", _BY_FFMPEG, "PCM, MP3 and others", magic=((8, b"AVI "),)),
    Format("Flash Video", (".flv",), "ffmpeg", _BY_FFMPEG, "MP3, AAC, Speex and others", magic=((0, b"FLV\x01"),)),
    Format(
        "MPEG program and transport streams",
        (".mpg", ".mpeg", ".vob", ".m2ts", ".mts", ".m2t"),
        "ffmpeg",
        _BY_FFMPEG,
        "MPEG audio, AC-3, AAC, PCM and others",
        magic=((0, b"\0\0\1\xba"),),
    ),
    Format("SoX", (".sox",), "ffmpeg", _BY_FFMPEG, "PCM 32 bit", magic=((0, b".SoX"), (0, b"XoS."))),
    Format("NUT", (".nut",), "ffmpeg", _BY_FFMPEG, "FLAC, PCM and others", magic=((0, b"nut/multimedia container"),)),
    Format("Musepack", (".mpc", ".mp+"), "ffmpeg", _BY_FFMPEG, "Musepack 7, 8", magic=((0, b"MPCK"), (0, b"MP+"))),
    Format("Monkey's Audio", (".ape",), "ffmpeg", _BY_FFMPEG, "Monkey's Audio", magic=((0, b"MAC "),)),
    Format("Shorten", (".shn",), "ffmpeg", _BY_FFMPEG, "Shorten", magic=((0, b"ajkg"),)),
    Format("True Audio", (".tta",), "ffmpeg", _BY_FFMPEG, "True Audio", magic=((0, b"TTA1"),)),
    Format("TAK", (".tak",), "ffmpeg", _BY_FFMPEG, "TAK", magic=((0, b"tBaK"),)),
    Format("WavPack", (".wv",), "ffmpeg", _BY_FFMPEG, "WavPack", magic=((0, b"wvpk"),)),
    Format("DSD", (".dsf", ".dff"), "ffmpeg", _BY_FFMPEG, "DSD", magic=((0, b"DSD "), (0, b"FRM8"))),
    Format("AMR", (".amr", ".awb"), "ffmpeg", _BY_FFMPEG, "AMR-NB, AMR-WB", magic=((0, b"#!AMR"),)),
    Format(
        "Dolby Digital, DTS",
        (".ac3", ".eac3", ".dts"),
        "ffmpeg",
        _BY_FFMPEG,
        "AC-3, E-AC-3, DTS",
        magic=((0, b"\x0b\x77"),),
    ),
    Format(
        "Olympus and Philips DSS",
        (".dss", ".ds2"),
        "ffmpeg",
        _BY_FFMPEG,
        "DSS SP",
        magic=((0, b"\x02dss"), (0, b"\x03dss"), (0, b"\x03ds2")),
    ),
    Format("QCP", (".qcp",), "ffmpeg", _BY_FFMPEG, "QCELP, EVRC", magic=((8, b"QLCM"),)),
    Format(
        "RealAudio", (".ra", ".rm", ".ram"), "ffmpeg", _BY_FFMPEG, "RealAudio", magic=((0, b".ra\xfd"), (0, b".RMF"))
    ),
    Format("Speex", (".spx",), "ffmpeg", _BY_FFMPEG, "Speex in Ogg"),
    # Audio without a container: nothing in such a file says its rate. What ffmpeg has to be told instead.
    Format("GSM 6.10, headerless", (".gsm",), "nothing", "nothing in it", options="-f gsm"),
    Format("G.722, headerless", (".g722",), "nothing", "nothing in it", options="-f g722"),
    Format("G.729, headerless", (".g729",), "nothing", "nothing in it", options="-f g729"),
    Format(
        "PCM at 8 kHz, headerless",
        (".raw", ".pcm", ".sln"),
        "nothing",
        "nothing in it",
        options="-f s16le -ar 8000 -ac 1",
    ),
    Format("PCM at 16 kHz, headerless", (".sln16",), "nothing", "nothing in it", options="-f s16le -ar 16000 -ac 1"),
    Format("A-law, headerless", (".alaw", ".al"), "nothing", "nothing in it", options="-f alaw -ar 8000 -ac 1"),
    Format("mu-law, headerless", (".ulaw", ".ul"), "nothing", "nothing in it", options="-f mulaw -ar 8000 -ac 1"),
    Format(
        "Dialogic ADPCM, headerless",
        (".vox",),
        "nothing",
        "nothing in it",
        options="-f u8 -c:a adpcm_ima_oki -ar 8000 -ac 1",
    ),
)
"""Every format that is known, those that are read best first."""

BY_EXTENSION: Final[Mapping[str, Format]] = MappingProxyType(
    {extension: form for form in reversed(FORMATS) for extension in form.extensions}
)
"""The format that an extension hints at."""
WRITTEN: Final[Mapping[str, Written]] = MappingProxyType(
    {form.written.key: form.written for form in FORMATS if form.written is not None}
)
"""What can be written, by its name in `format`."""
SUBTYPES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({key: one.subtypes for key, one in WRITTEN.items()})
"""What each container takes."""
COPIES: Final = tuple(
    one.key for one in sorted(WRITTEN.values(), key=lambda one: one.copy_bytes_a_second) if one.copy_bytes_a_second
)
"""What an output may have a copy in, the smallest first."""


def extensions(*readers: Reader) -> frozenset[str]:
    """Return the extensions of the formats that these read; of all formats where none is named."""
    return frozenset(e for form in FORMATS if not readers or form.reader in readers for e in form.extensions)


def written_for(extension: str) -> Written | None:
    """Return what a file of this extension (".aif", in any case) would be written as; None where nothing is."""
    form = BY_EXTENSION.get(extension.lower())
    return form.written if form is not None else None


def by_magic(head: bytes) -> Format | None:
    """Return the format whose first bytes these are; 32 are enough. None where no format's are."""
    found = [(at, form) for form in FORMATS for at, word in form.magic if head[at : at + len(word)] == word]
    # RIFF may hold many things: what stands further in says more.
    return max(found, key=lambda one: one[0])[1] if found else None


def markdown() -> str:
    """Return the table as it stands in docs/formats.md."""
    return "\n".join([*_read_rows(), "", *_written_rows()]) + "\n"


def _read_rows() -> Iterator[str]:
    yield "| format | extensions | read by | encodings | length from | metadata understood |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for form in FORMATS:
        reader = {"libsndfile": "libsndfile", "ffmpeg": "ffmpeg, where it is there"}.get(form.reader, "nothing")
        if form.options:
            reader = f"nothing; `ffmpeg {form.options}` makes a WAV of it"
        names = " ".join(form.extensions)
        yield f"| {form.title} | {names} | {reader} | {form.samples or '-'} | {form.length_from} | {form.metadata} |"


def _written_rows() -> Iterator[str]:
    yield (
        "| `--format` | extensions | `--subtype`, the natural one first | channels at most | rates in kHz "
        "| metadata carried |"
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for form in FORMATS:
        if (out := form.written) is not None:
            subtypes = ", ".join((out.natural, *(s for s in out.subtypes if s != out.natural)))
            names = " ".join(form.extensions)
            rates = ", ".join(f"{rate_hz / 1000:g}" for rate_hz in out.rates_hz) or "any"
            yield f"| {out.key} | {names} | {subtypes} | {out.channels:,} | {rates} | {out.carried} |"
