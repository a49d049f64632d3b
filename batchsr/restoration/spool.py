"""The denoised recording of one file at 48 kHz, slot by slot, beside its scratch: computed once, read twice.

    the file's thread                                    the joiner, for --keep-band
    resampled -> slots of 300 s, denoised -> spool  -> the same stream, when it is there
                                          -> the same stream, for the model

The network has a memory, so a slot is begun 30 s ahead with a fresh state; what 30 s leave of the difference to a run
from the file's start lies 52 dB and more below the sound. Neighbours overlap by half a second and are cross-faded.
The grid of slots counts from the file's start, so the bytes depend neither on kills nor on threads, and a kill costs
one slot. A file of at most 300 s is one slot: exactly the run over the whole file.

Pages of half a second are kept in a file like that of the windows (batchsr.restoration.scratch), and prove themselves
as those do. The key holds what was resampled, so a page of another recording is not believed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.denoising import Denoising
from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged
from batchsr.restoration.pipeline import GateClosed
from batchsr.restoration.scratch import HEADER, Scratch, fingerprint

PAGE: Final = 24_000
SLOT_PAGES: Final = 600
LEAD_PAGES: Final = 60
_STORED: Final = SLOT_PAGES + 1
"""A slot's pages, and the one that it shares with the next."""

Page = NDArray[np.float32]
"""Half a second, (channels, PAGE)."""


class Stream(Protocol):
    """What denoises one channel; as `batchsr.speech.denoiser.Denoiser`."""

    def process(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next samples, as many, of the stream `delay_samples` ago."""
        ...

    def close(self) -> None: ...


def spool_path(scratch: Path) -> Path:
    """Return the spool's path beside a scratch file."""
    return scratch.with_name(scratch.name + ".spool")


def spool_bytes(total_samples: int, channels: int) -> int:
    """Return how large a spool becomes."""
    pages = -(-total_samples // PAGE)
    return (pages + max(pages - 1, 0) // SLOT_PAGES) * (HEADER.size + 4 * channels * PAGE)


class Spool:
    """The denoised recording of one file under construction. `fill` is for one thread, `read` for another."""

    def __init__(
        self,
        path: Path,
        *,
        key: bytes,
        channels: int,
        total_samples: int,
        denoising: Denoising,
        make: Callable[[float], Stream],
        delay_samples: int,
        alive: Callable[[], None],
        name: str,
    ) -> None:
        """`make(limit_db)` gives a new stream. `alive` is called now and then, and stops it by raising. `name` is the
        file's, for messages. Raises ResourceError."""
        self._denoising = denoising
        self._make, self._delay, self._alive, self._name = make, delay_samples, alive, name
        self._channels, self._total = channels, total_samples
        self._pages = -(-total_samples // PAGE)
        self.slots = -(-self._pages // SLOT_PAGES)
        self._scratch = Scratch(path, key=key, channels=channels, frame_samples=PAGE, count=self.slots * _STORED)
        self._ready = 0
        self._closed = False
        self._changed = threading.Condition()
        self.resumed = 0
        """Slots of an earlier attempt that held."""
        self._powers = {kind: np.zeros(2) for kind in ("speech", "pause", "neither")}
        self._pool = ThreadPoolExecutor(min(2 * channels, os.cpu_count() or 1), thread_name_prefix="denoise")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.give_up()
        self._pool.shutdown()
        self._scratch.close()

    def give_up(self) -> None:
        """No more slots will come: whoever waits for one stops."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fill(self, noisy: Iterable[Block]) -> Iterator[Block]:
        """Bring the spool to all slots, and give what is denoised as they are finished.

        Raises InputChanged where `noisy` is not what slots of an earlier attempt were made from,
        StageFailed, ResourceError.
        """
        finished = self._scratch.finished()
        running: list[_Slot] = []
        begun = 0
        try:
            for index, page in enumerate(self._paged(noisy)):
                self._alive()
                while begun < self.slots and index >= begun * SLOT_PAGES - LEAD_PAGES:
                    running.append(self._begin(begun, finished))
                    begun += 1
                if index < self._pages:
                    self._add_power(0, index, page)
                self._feed(running, index, page)
                while running and running[0].is_complete(index):
                    done = running.pop(0)
                    done.close()
                    self._scratch.sync()
                    self.resumed += done.kept
                    with self._changed:
                        self._ready += 1
                        self._changed.notify_all()
                    for number, block in self._slot(self._ready - 1):
                        self._add_power(1, number, block.T)
                        yield block
        finally:
            for slot in running:
                slot.close()

    def read(self) -> Iterator[Block]:
        """Yield what is denoised, slot by slot, as soon as each is there. Raises GateClosed when it will not come."""
        for number in range(self.slots):
            with self._changed:
                self._changed.wait_for(lambda number=number: number < self._ready or self._closed)  # type: ignore[misc]
                if number >= self._ready:
                    raise GateClosed
            for _, block in self._slot(number):
                yield block

    def found(self) -> dict[str, Any]:
        """Return what was removed, JSON-able, when the spool was filled."""
        removed = {}
        for kind in ("speech", "pause"):
            before, after = self._powers[kind]
            removed[kind] = round(float(10 * np.log10(before / after)), 1) if before > 0 and after > 0 else None
        return {"removed_db": removed, "slots": self.slots, "slots_resumed": self.resumed}

    def _paged(self, noisy: Iterable[Block]) -> Iterator[Page]:
        """Yield a recording in pages, filled up with silence at its end, and one of silence for what comes late."""
        silence = np.zeros((self._channels, PAGE), np.float32)
        for block in reblock(noisy, PAGE):
            if len(block) == PAGE:
                yield np.ascontiguousarray(block.T)
            else:
                page = silence.copy()
                page[:, : len(block)] = block.T
                yield page
        yield silence

    def _begin(self, number: int, finished: set[int]) -> _Slot:
        first = number * SLOT_PAGES
        last = min(first + _STORED, self._pages)
        stored = range(number * _STORED, number * _STORED + last - first)
        kept = finished.issuperset(stored)
        heard = not kept and self._denoising.touches(first * PAGE, last * PAGE)
        streams = [self._make(self._denoising.limit_db) for _ in range(self._channels)] if heard else []
        return _Slot(number, max(0, first - LEAD_PAGES), first, last, kept, streams)

    def _feed(self, running: list[_Slot], index: int, page: Page) -> None:
        """Give a page to all slots that take it in; each channel's stream is a thread's."""
        taking = [slot for slot in running if slot.begin <= index <= slot.last]
        work = [(slot, channel) for slot in taking if slot.streams for channel in range(self._channels)]
        gain = np.float32(10 ** (self._denoising.gain_db / 20))
        louder = page * gain if work else page

        def denoised(one: tuple[_Slot, int]) -> NDArray[np.float32]:
            slot, channel = one
            return slot.streams[channel].process(louder[channel])

        came = dict(zip(work, self._pool.map(denoised, work), strict=True))
        for slot in taking:
            of_slot = page
            if slot.streams:
                of_slot = np.stack([came[slot, channel] for channel in range(self._channels)]) / gain
            self._store(slot, index, page, of_slot)

    def _store(self, slot: _Slot, index: int, page: Page, came: Page) -> None:
        """Keep the page that is complete now: this one, or with a stream that is late the one before."""
        if not slot.streams:
            complete, samples, original = index, page, page
        else:
            complete, original = index - 1, slot.page
            samples = np.concatenate([slot.came[:, self._delay :], came[:, : self._delay]], axis=1)
            slot.page, slot.came = page, came
        if not slot.first <= complete < slot.last:
            return
        place = slot.number * _STORED + complete - slot.first
        made_from = fingerprint(original)
        if slot.kept:
            if not self._scratch.was_made_from(place, made_from):
                self._scratch.path.unlink(missing_ok=True)
                raise InputChanged(
                    f"{self._name} is not what it was when its restoration was begun",
                    remedy="enqueue it again once nothing writes to it",
                )
            return
        if slot.streams:
            weights = self._denoising.weights(complete * PAGE, PAGE)
            samples = (weights * samples + (1 - weights) * original).astype(np.float32)
        self._scratch.write(place, samples, made_from=made_from)

    def _slot(self, number: int) -> Iterator[tuple[int, Block]]:
        """Yield a slot's own pages, cut at the recording's end: (which page, (n, channels))."""
        first = number * SLOT_PAGES
        for index in range(first, min(first + SLOT_PAGES, self._pages)):
            page = self._scratch.read(number * _STORED + index - first)
            if index == first and number:
                before = self._scratch.read((number - 1) * _STORED + SLOT_PAGES)
                fade = (np.arange(PAGE) / PAGE).astype(np.float32)
                page = before + fade * (page - before)
            yield index, page.T[: self._total - index * PAGE]

    def _add_power(self, behind: int, index: int, page: Page) -> None:
        stop = min((index + 1) * PAGE, self._total)
        kind = self._denoising.kind(index * PAGE, stop)
        self._powers[kind][behind] += float(np.square(page, dtype=np.float64).sum())


class _Slot:
    """A slot in hand: what it takes in, pages [begin, last], and what it stores of it, pages [first, last)."""

    def __init__(self, number: int, begin: int, first: int, last: int, kept: bool, streams: list[Stream]) -> None:
        self.number, self.begin, self.first, self.last = number, begin, first, last
        self.kept = kept
        """It is there from an earlier attempt, and only compared."""
        self.streams = streams
        """One a channel; empty where it is kept, or nothing in it is denoised."""
        self.page: Page = np.zeros((max(len(streams), 1), PAGE), np.float32)
        self.came: Page = self.page

    def is_complete(self, index: int) -> bool:
        """Return whether all of it is stored when page `index` was taken in: with a stream it is a page late."""
        return index >= self.last - (not self.streams)

    def close(self) -> None:
        """Free the streams."""
        for stream in self.streams:
            stream.close()
        self.streams = []
