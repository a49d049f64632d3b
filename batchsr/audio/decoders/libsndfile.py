"""libsndfile as a decoder: most formats, from an open descriptor or from a virtual file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import soundfile

from batchsr.audio.containers import ogg
from batchsr.audio.decoders.interface import DecodeError
from batchsr.audio.decoders.quiet import quiet
from batchsr.audio.decoders.virtual_file import VirtualFile
from batchsr.audio.remarks import Remark
from batchsr.audio.windows import Block

LIBSNDFILE_VERSION: Final = str(soundfile.__libsndfile_version__)
_SYSTEM_ERROR: Final = 2  # libsndfile's SF_ERR_SYSTEM


class LibsndfileDecoder:
    """A file that libsndfile reads. Raises DecodeError where it cannot."""

    remarks: tuple[Remark, ...] = ()

    def __init__(
        self, file: int | VirtualFile, raw: Mapping[str, str | int] = MappingProxyType({}), called: str = ""
    ) -> None:
        """Open a descriptor, from its beginning, or a virtual file. Closing leaves the descriptor open.

        `raw` tells libsndfile what samples without a header are, and `called` what the container is to be called.

        By descriptor, not by name: no name is too odd, the file cannot be exchanged under us, and libsndfile
        cannot guess a headerless format from an extension.
        """
        self._virtual = file if isinstance(file, VirtualFile) else None
        try:
            with quiet():
                if isinstance(file, VirtualFile):
                    file.seek(0)
                    self._file = soundfile.SoundFile(file, **raw)
                else:
                    os.lseek(file, 0, os.SEEK_SET)
                    self._file = soundfile.SoundFile(file, closefd=False)
        except soundfile.LibsndfileError as e:
            raise self._error(e) from e
        self.sample_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames
        self.format: str = called or self._file.format
        self.subtype: str = self._file.subtype
        self._order = ogg.WAV_ORDER.get(self.channels) if self.subtype in ("VORBIS", "OPUS") else None

    def read(self, frames: int) -> Block:
        """Return the next samples, (n, channels), the channels in WAV's order (FL FR FC LFE...)."""
        try:
            with quiet():
                block: Block = self._file.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as e:
            raise self._error(e) from e
        if self._virtual is not None and self._virtual.failure is not None:
            raise DecodeError(str(self._virtual.failure.strerror), system=True)
        return block if self._order is None else np.ascontiguousarray(block[:, self._order])

    def seek(self, frame: int) -> None:
        """Go to a frame."""
        try:
            with quiet():
                self._file.seek(frame)
        except soundfile.LibsndfileError as e:
            raise self._error(e) from e

    def texts(self) -> dict[str, str]:
        """Return the texts that libsndfile finds in the file, by its names."""
        return dict(self._file.copy_metadata())

    def close(self) -> None:
        """Close libsndfile's handle."""
        self._file.close()

    def _error(self, e: soundfile.LibsndfileError) -> DecodeError:
        if self._virtual is not None and self._virtual.failure is not None:
            return DecodeError(str(self._virtual.failure.strerror), system=True)
        return DecodeError(e.error_string.strip().rstrip("."), system=e.code == _SYSTEM_ERROR)
