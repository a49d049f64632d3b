"""The front of all reading and writing of sound files; every file of a restoration is opened behind it."""

from __future__ import annotations

from batchsr.audio.formats import SUBTYPES
from batchsr.audio.probe import SourceInfo, fits_header, probe, shown
from batchsr.audio.reader import Source, resampled
from batchsr.audio.resample import resample
from batchsr.audio.writer import Embedded, Writer, check_format

__all__ = [
    "SUBTYPES",
    "Embedded",
    "Source",
    "SourceInfo",
    "Writer",
    "check_format",
    "fits_header",
    "probe",
    "resample",
    "resampled",
    "shown",
]
