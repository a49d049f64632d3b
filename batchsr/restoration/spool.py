"""The denoised recording of one file at 48 kHz, slot by slot, beside its scratch: computed once, read twice.

    a thread that reads ahead      some threads          the file's thread          the joiner, for --keep-band
    resampled -> pages of 0.5 s -> slots of 300 s, -> the same stream, for the -> the same stream, when
                                   denoised -> spool  model, slot by slot         it is there

The network has a memory, so a slot is begun 30 s ahead with a fresh state; what 30 s leave of the difference to a run
from the file's start lies 52 dB and more below the sound. Neighbours overlap by half a second and are cross-faded.
The grid of slots counts from the file's start and a slot knows nothing of others, so several are computed side by side,
and the bytes depend neither on kills nor on threads. A kill costs the slots in hand: the time of one. A file of at most
300 s is one slot: exactly the run over the whole file.

Pages of half a second are kept in a file like that of the windows (batchsr.restoration.scratch), and prove themselves
as those do. The key holds what was resampled, so a page of another recording is not believed.

Longer than other modules: what the three threads do to one file is read in one place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from batchsr import machine
from batchsr.audio.denoising import Denoising
from batchsr.audio.resample import reblock
from batchsr.audio.windows import Block
from batchsr.errors import InputChanged
from batchsr.restoration.pipeline import GateClosed
from batchsr.restoration.scratch import HEADER, Scratch, fingerprint
from batchsr.restoration.slots import AHEAD, Page, Slot, Stream, side_by_side

PAGE: Final = 24_000
SLOT_PAGES: Final = 600
LEAD_PAGES: Final = 60
_STORED: Final = SLOT_PAGES + 1
"""A slot's pages, and the one that it shares with the next."""
_SIGN_OF_LIFE_S: Final = 1.0
_LOOK_S: Final = 0.1
"""How often the reader looks whether other files have let go of memory."""


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
        """`make(limit_db)` gives a new stream. `alive` is called while a slot is waited for, and stops it by raising.
        `name` is the file's, for messages. Raises OutputTooLarge where one file may not hold it, ResourceError."""
        self._denoising = denoising
        self._make, self._delay, self._alive, self._name = make, delay_samples, alive, name
        self._channels, self._total = channels, total_samples
        self._pages = -(-total_samples // PAGE)
        self.slots = -(-self._pages // SLOT_PAGES)
        self._scratch = Scratch(path, key=key, channels=channels, frame_samples=PAGE, count=self.slots * _STORED)
        with contextlib.ExitStack() as opening:
            opening.callback(self._scratch.close)
            self._scratch.refuse_too_large(self._pages + max(self._pages - 1, 0) // SLOT_PAGES)
            opening.pop_all()
        self._ready = 0
        self._closed = False
        self._changed = threading.Condition()
        self._running: dict[int, Slot] = {}
        """Slots in the hands of a thread, by number; finished ones in `_done` until their turn comes."""
        self._done: dict[int, Slot] = {}
        self._waiting = 0
        """Pages that this file's slots have still to take in."""
        self._failed: BaseException | None = None
        self.resumed = 0
        """Slots of an earlier attempt that held."""
        self._powers = {kind: np.zeros(2) for kind in ("speech", "pause", "neither")}
        self._most = side_by_side()
        self._slots = ThreadPoolExecutor(self._most, thread_name_prefix="slot")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._pool = ThreadPoolExecutor(max(1, min(channels, machine.cores())), thread_name_prefix="denoise")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self.give_up()
        self._reader.shutdown()
        self._slots.shutdown()
        self._pool.shutdown()
        self._scratch.close()

    def give_up(self) -> None:
        """No more slots will come: whoever waits for one stops, and what computes them."""
        with self._changed:
            self._closed = True
            for slot in self._running.values():
                slot.pages.put(None)
            self._changed.notify_all()

    def fill(self, noisy: Iterable[Block]) -> Iterator[Block]:
        """Bring the spool to all slots, and give what is denoised as they are finished, in order.

        `noisy` is read in a thread of its own. Raises what it raises, InputChanged where it is not what slots of an
        earlier attempt were made from, StageFailed, ResourceError.
        """
        reading = self._reader.submit(self._read_ahead, noisy, self._scratch.finished())
        try:
            for number in range(self.slots):
                self.resumed += self._finished(number).kept
                self._scratch.sync()
                with self._changed:
                    self._ready += 1
                    self._changed.notify_all()
                for index, block in self._slot(number):
                    self._add_power(1, index, block.T)
                    yield block
            self._wait(reading)
        finally:
            if self._ready < self.slots:
                self.give_up()

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

    def _finished(self, number: int) -> Slot:
        """Wait for a slot. Raises what it, or the reader, ended with."""
        while True:
            with self._changed:
                if number in self._done:
                    return self._done.pop(number)
                if self._failed is not None:
                    raise self._failed
            self._alive()
            with self._changed:
                self._changed.wait_for(lambda: number in self._done or self._failed is not None, _SIGN_OF_LIFE_S)

    def _wait(self, reading: Future[None]) -> None:
        """Wait until the recording was read to its end."""
        while True:
            with contextlib.suppress(TimeoutError):
                return reading.result(_SIGN_OF_LIFE_S)
            self._alive()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failed = self._failed or error
            self._changed.notify_all()

    def _read_ahead(self, noisy: Iterable[Block], finished: set[int]) -> None:
        """Hand out the recording's pages, and begin each slot when its first one comes."""
        begun, taking = 0, list[Slot]()
        try:
            for index, page in enumerate(self._paged(noisy)):
                while begun < self.slots and index >= begun * SLOT_PAGES - LEAD_PAGES:
                    taking.append(self._begin(begun, finished))
                    begun += 1
                if index < self._pages:
                    self._add_power(0, index, page)
                for slot in taking:
                    self._hand(slot, index, page)
                taking = [slot for slot in taking if index < slot.end]
        except BaseException as e:  # noqa: BLE001 - raised in the thread that waits
            self._fail(e)
        finally:
            if (close := getattr(noisy, "close", None)) is not None:
                close()

    def _begin(self, number: int, finished: set[int]) -> Slot:
        """Begin a slot once a thread is free for it: all but the last of those begun have their pages, and end."""
        first = number * SLOT_PAGES
        last = min(first + _STORED, self._pages)
        stored = range(number * _STORED, number * _STORED + last - first)
        kept = finished.issuperset(stored)
        heard = not kept and self._denoising.touches(first * PAGE, last * PAGE)
        slot = Slot(number, max(0, first - LEAD_PAGES), first, last, kept=kept, heard=heard)
        with self._changed:
            self._changed.wait_for(lambda: len(self._running) < self._most or self._closed)
            if self._closed:
                raise GateClosed
            self._running[number] = slot
        self._slots.submit(self._run, slot)
        return slot

    def _hand(self, slot: Slot, index: int, page: Page) -> None:
        """Put a page before a slot, as soon as there is room for it; one of this file may always wait."""
        with self._changed:
            while not self._closed and not slot.over:
                if AHEAD.take(page.nbytes, forced=not self._waiting):
                    self._waiting += 1
                    slot.pages.put((index, page))
                    return
                self._changed.wait(_LOOK_S)
            if self._closed:
                raise GateClosed

    def _run(self, slot: Slot) -> None:
        """Compute a slot from the pages that come."""
        try:
            if slot.heard:
                for _ in range(self._channels):
                    slot.streams.append(self._make(self._denoising.limit_db))
            while (handed := slot.pages.get()) is not None and not self._closed:
                index, page = handed
                self._let_go(page)
                self._store(slot, index, page)
                if index == slot.end:
                    with self._changed:
                        self._done[slot.number] = slot
                    break
        except BaseException as e:  # noqa: BLE001 - raised in the thread that waits
            self._fail(e)
        finally:
            slot.close()
            with self._changed:
                slot.over = True
                del self._running[slot.number]
                while not slot.pages.empty():
                    if (handed := slot.pages.get()) is not None:
                        self._let_go(handed[1])
                self._changed.notify_all()

    def _let_go(self, page: Page) -> None:
        """Count a page out that does not wait any more."""
        AHEAD.give(page.nbytes)
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def _store(self, slot: Slot, index: int, page: Page) -> None:
        """Keep the page that is complete now: this one, or with a stream that is late the one before."""
        gain = np.float32(10 ** (self._denoising.gain_db / 20))
        complete, original, samples = slot.take(index, page, gain, self._delay, self._pool)
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
