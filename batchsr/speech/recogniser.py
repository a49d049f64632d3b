"""What a speech recogniser hears: Whisper by the library faster-whisper, always the same words for the same sound.

It decodes with 8-bit weights on one thread, greedily (beam 1, temperature 0), each clip by itself. Segments that the
network itself takes for none (probability of no speech over 0.6), or that repeat themselves (text that compresses by
more than 2.4), are left out. Source of the two limits: A. Radford et al., Robust Speech Recognition via Large-Scale
Weak Supervision, 2022.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import threading
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsr import storage

RATE_HZ: Final = 16_000
LONGEST_CLIP_S: Final = 30.0
"""What the network hears at once."""
DECODING: Final = "int8, one thread, beam 1, temperature 0, each clip by itself"
_NO_SPEECH: Final = 0.6
_REPEATS: Final = 2.4


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """A word that was heard, from where to where in seconds, and how sure the recogniser was of it, 0 to 1."""

    start_s: float
    end_s: float
    text: str
    probability: float


class Recogniser(Protocol):
    """Whoever hears words."""

    def identity(self) -> dict[str, str]:
        """Return what hears, JSON-able: library, model's SHA-256, decoding."""
        ...

    def language_of(self, sound: NDArray[np.float32]) -> str:
        """Return the language that is spoken in a clip (n,) at RATE_HZ, as ISO 639-1 has it."""
        ...

    def words(self, sound: NDArray[np.float32], language: str) -> list[Word]:
        """Return the words heard in a clip (n,) at RATE_HZ, n at most LONGEST_CLIP_S."""
        ...


class Whisper:
    """A network in the form of CTranslate2, loaded from its folder. May be asked by several threads."""

    def __init__(self, folder: Path) -> None:
        """Raises ModuleNotFoundError without the library; what the library raises of a folder that is no model."""
        from faster_whisper import WhisperModel

        self._folder = folder
        self._network: Any = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
        self._lock = threading.Lock()

    @functools.cached_property
    def _sha256(self) -> str:
        return storage.sha256(self._folder / "model.bin")

    def identity(self) -> dict[str, str]:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in ("faster-whisper", "ctranslate2")]
        return {"library": ", ".join(versions), "model_sha256": self._sha256, "decoding": DECODING}

    def language_of(self, sound: NDArray[np.float32]) -> str:
        if not self._network.model.is_multilingual:
            return "en"
        with self._lock:
            language, _, _ = self._network.detect_language(sound)
        return str(language)

    def words(self, sound: NDArray[np.float32], language: str) -> list[Word]:
        with self._lock:
            segments, _ = self._network.transcribe(
                sound,
                language=language,
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                word_timestamps=True,
            )
            kept = [one for one in segments if one.no_speech_prob <= _NO_SPEECH and one.compression_ratio <= _REPEATS]
        return [
            Word(float(word.start), float(word.end), str(word.word).strip(), float(word.probability))
            for segment in kept
            for word in segment.words or ()
        ]


@functools.lru_cache(maxsize=1)
def load(folder: Path) -> Recogniser:
    """Return the recogniser of a folder, one for the whole process."""
    return Whisper(folder)
