"""Which words a recogniser heard in a recording and no longer in what was made of it.

A recogniser is no witness: it changes words for nothing, as when the same recording begins a few milliseconds later.
So only words that it was sure of are counted (probability 0.6 and more). Beside those that are no longer heard stands
how many went when the recording was heard again with 37 ms of silence before it: the recogniser's own unrest. Nothing
is counted where little is spoken (under 20 %), or where it was unsure of the recording (mean probability under 0.7).

Recording and output are heard in the same clips of at most 30 s, cut where the recording is quietest, so that an hour
takes no more memory than a minute. A clip in which nobody speaks is not heard: of music and noise a recogniser invents
words. The language is that of the first speech.
"""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.resample import Downsampler
from batchsr.audio.windows import Block
from batchsr.speech import voice
from batchsr.speech.recogniser import LONGEST_CLIP_S, RATE_HZ, Recogniser, Word

SURE: Final = 0.6
LEAST_SPEECH: Final = 0.2
LEAST_SURE: Final = 0.7
FEWEST_TO_REVIEW: Final = 2
SHARE_TO_REVIEW: Final = 0.02
"""Marked for review where more words than this share of the sure ones, and at least FEWEST_TO_REVIEW, went beyond the
recogniser's own unrest."""
MOST_PLACES: Final = 200
"""How many words are put on record with their times; all are counted."""
_SHIFT_S: Final = 0.037
_LEAST_SPOKEN_S: Final = 0.25
"""A clip with less speech than a short word has is not heard."""
_CLIP: Final = round((LONGEST_CLIP_S - 1) * RATE_HZ)
_SEARCHED: Final = 8 * RATE_HZ
_QUIET: Final = RATE_HZ // 10


@dataclasses.dataclass(frozen=True, slots=True)
class Gone:
    """A sure word of the recording that is not heard in the output, and what is heard in its place, "" for nothing."""

    word: Word
    instead: str


class WordCheck:
    """Hears a recording and its restoration as they pass by, both at 48 kHz, and compares the words of their clips."""

    def __init__(self, load: Callable[[], Recogniser], *, keep_text: bool = False) -> None:
        """`load` is called for the first sound; `keep_text` puts the words themselves on record, not their times alone.

        Nothing that the recogniser raises goes further: it is on record, and nothing is counted.
        """
        self._load = load
        self._recogniser: Recogniser | None = None
        self._trouble: str | None = None
        self._keep_text = keep_text
        self._language: str | None = None
        self._before, self._after = _Held(), _Held()
        self._detector = voice.Detector()
        self._spoken = _Spoken()
        self._clips: deque[tuple[int, list[Word]]] = deque()
        self._heard_s = 0.0
        self._sum_of_probabilities = 0.0
        self._words = self._sure = self._gone = self._gone_when_shifted = self._new_when_shifted = 0
        self._places: list[Gone] = []

    def add_before(self, block: Block) -> None:
        """Take in the next (n, C) of the recording."""
        self._spoken.add(self._detector.add(self._before.add(block)))
        while len(self._before) > _CLIP:
            self._hear_before(_quietest(self._before.first(_CLIP)))
        self._compare_what_is_there()

    def add_after(self, block: Block) -> None:
        """Take in the next (n, C) of the output; it may be behind the recording, or before it."""
        self._after.add(block)
        self._compare_what_is_there()

    def finish(self) -> dict[str, Any]:
        """Return what was found, JSON-able; nothing may be added behind it."""
        self._spoken.add(self._detector.add(self._before.finish()))
        self._after.finish()
        while len(self._before):
            self._hear_before(len(self._before) if len(self._before) <= _CLIP else _quietest(self._before.first(_CLIP)))
        self._compare_what_is_there(at_end=True)
        mean = self._sum_of_probabilities / self._words if self._words else None
        said: dict[str, Any] = {
            **(self._recogniser.identity() if self._recogniser is not None else {}),
            "language": self._language,
            "speech_share": round(self._detector.share, 4),
            "mean_probability": None if mean is None else round(mean, 4),
            "not_counted_because": self._reason(mean),
            **({} if self._trouble is None else {"trouble": self._trouble}),
        }
        if said["not_counted_because"] is not None:
            return {**said, "sure": None, "gone": None, "own_unrest": None, "places": [], "review": None}
        unrest = max(self._gone_when_shifted, self._new_when_shifted)
        places = [
            {"start_s": round(one.word.start_s, 2), "end_s": round(one.word.end_s, 2)}
            | ({"before": one.word.text, "after": one.instead} if self._keep_text else {})
            for one in self._places
        ]
        review = self._gone - unrest >= max(FEWEST_TO_REVIEW, SHARE_TO_REVIEW * self._sure)
        return {
            **said,
            "sure": self._sure,
            "gone": self._gone,
            "own_unrest": unrest,
            "places": places,
            "review": review,
        }

    def _reason(self, mean: float | None) -> str | None:
        if self._trouble is not None:
            return "recogniser_failed"
        if self._detector.share < LEAST_SPEECH:
            return "little_speech"
        if mean is None:
            return "no_words"
        return "unsure" if mean < LEAST_SURE else None

    def _hear_before(self, samples: int) -> None:
        clip = self._before.take(samples)
        spoken = clip[self._spoken.take(samples)]
        words = self._heard(clip, spoken) if len(spoken) >= _LEAST_SPOKEN_S * RATE_HZ else []
        if words:
            shift = np.zeros(round(_SHIFT_S * RATE_HZ), np.float32)
            again = self._heard(np.concatenate([shift, clip]), spoken)
            self._gone_when_shifted += len(gone(words, again))
            self._new_when_shifted += len(gone(again, words))
        self._words += len(words)
        self._sure += sum(word.probability >= SURE for word in words)
        self._sum_of_probabilities += sum(word.probability for word in words)
        self._clips.append((samples, words))

    def _compare_what_is_there(self, *, at_end: bool = False) -> None:
        while self._clips and (len(self._after) >= self._clips[0][0] or at_end):
            samples, words = self._clips.popleft()
            clip = self._after.take(min(samples, len(self._after)))
            if any(word.probability >= SURE for word in words):
                for one in gone(words, self._heard(clip, clip)):
                    self._gone += 1
                    if len(self._places) < MOST_PLACES:
                        start_s, end_s = one.word.start_s + self._heard_s, one.word.end_s + self._heard_s
                        self._places.append(
                            Gone(dataclasses.replace(one.word, start_s=start_s, end_s=end_s), one.instead)
                        )
            self._heard_s += samples / RATE_HZ

    def _heard(self, clip: NDArray[np.float32], spoken: NDArray[np.float32]) -> list[Word]:
        """Return the words of a clip, none of silence. `spoken` is what tells the language, of the first clip alone."""
        if self._trouble is not None or not clip.any():
            return []
        try:
            if self._recogniser is None:
                self._recogniser = self._load()
            if self._language is None:
                self._language = self._recogniser.language_of(spoken)
            words = self._recogniser.words(clip, self._language)
        except Exception as e:  # noqa: BLE001 - a check ends no restoration, whatever a library below it raises
            self._trouble = f"{type(e).__name__}: {e}"
            return []
        return [word for word in words if _letters(word.text)]


def gone(before: Sequence[Word], after: Sequence[Word]) -> list[Gone]:
    """Return the sure words of `before` that `after` does not have at their place in the sequence of words."""
    a, b = ([_letters(word.text) for word in words] for words in (before, after))
    found: list[Gone] = []
    for what, start, end, other, others_end in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what in ("replace", "delete"):
            instead = " ".join(word.text for word in after[other:others_end])
            found += [Gone(word, instead) for word in before[start:end] if word.probability >= SURE]
    return found


def _letters(text: str) -> str:
    """Return a word as it is compared: without marks of punctuation, in one case and composition."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _quietest(sound: NDArray[np.float32]) -> int:
    """Return where the last seconds of a clip are quietest, in samples from its start."""
    searched = sound[-_SEARCHED:]
    rows = searched[: len(searched) // _QUIET * _QUIET].reshape(-1, _QUIET)
    at = int(np.argmin(np.sum(np.square(rows, dtype=np.float64), axis=1)))
    return len(sound) - len(searched) + at * _QUIET + _QUIET // 2


class _Held:
    """One channel at RATE_HZ of which the beginning is taken away bit by bit."""

    def __init__(self) -> None:
        self._down = Downsampler(RATE_HZ)
        self._sound = np.zeros(0, np.float32)

    def __len__(self) -> int:
        return len(self._sound)

    def add(self, block: Block) -> NDArray[np.float32]:
        """Take in the mean of the channels of the next (n, C) at 48 kHz; return (m,) at RATE_HZ."""
        return self._append(self._down.add(block.mean(axis=1, keepdims=True, dtype=np.float32)))

    def finish(self) -> NDArray[np.float32]:
        """Return (m,) that was still kept back."""
        return self._append(self._down.finish())

    def first(self, samples: int) -> NDArray[np.float32]:
        return self._sound[:samples]

    def take(self, samples: int) -> NDArray[np.float32]:
        taken, self._sound = self._sound[:samples], self._sound[samples:]
        return taken

    def _append(self, new: Block) -> NDArray[np.float32]:
        self._sound = np.concatenate([self._sound, new[:, 0]])
        return new[:, 0]


class _Spoken:
    """In which samples of a channel at RATE_HZ somebody speaks, of which the beginning is taken away bit by bit."""

    def __init__(self) -> None:
        self._frames: list[bool] = []
        self._taken = 0  # samples of the first frame that were taken already

    def add(self, frames: list[bool]) -> None:
        self._frames += frames

    def take(self, samples: int) -> NDArray[np.bool_]:
        """Return (samples,); a last frame that never was whole has no speech."""
        end = self._taken + samples
        mask = np.repeat(np.array(self._frames[: -(-end // voice.FRAME_SAMPLES)], bool), voice.FRAME_SAMPLES)
        mask = np.pad(mask[self._taken : end], (0, max(0, end - max(len(mask), self._taken))))
        del self._frames[: end // voice.FRAME_SAMPLES]
        self._taken = end % voice.FRAME_SAMPLES
        return mask
