"""One file's way past the model: what is offered to it, what is kept of it, and what joins that behind it.

    the file's thread          the model's            the file's            the joiner's
    read, resample,  -> offered, computed, -> scratch -> Gate, synced     -> cross-fade, dither, write
    cut

The file's thread is some windows ahead of the model, so that a file fills the model's passes on its own. The joiner
follows a window behind, so that when the last window is done the output is nearly done too. It takes windows from
the scratch, not from memory: a long file costs no more than a short one, and a window of an earlier attempt is one
like any other.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.channels import first_alike
from batchsr.errors import NonFiniteOutput
from batchsr.restoration.batcher import KeepFn, NoteFn, Rows
from batchsr.restoration.scratch import Scratch, fingerprint

Window = NDArray[np.float32]
"""One window of every channel, (channels, frame_samples)."""
OfferFn = Callable[[Rows, int, KeepFn, NoteFn], Future[None]]
"""Rows to compute, their window's index, what takes the results, and what is told before that if they took float32
(batchsr.restoration.batcher)."""


class GateClosed(Exception):
    """The model stopped before the window that was waited for."""


class Gate:
    """Lets the joiner at a window once it is in the scratch."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._finished: set[int] = set()
        self._closed = False
        self._changed = threading.Condition()

    def add(self, index: int) -> None:
        """Note that this window is in the scratch now."""
        with self._changed:
            self._finished.add(index)
            self._changed.notify_all()

    def close(self) -> None:
        """Note that no more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait(self, index: int) -> None:
        """Wait for a window. Raises GateClosed when it will not come."""
        with self._changed:
            self._changed.wait_for(lambda: index in self._finished or self._closed)
            if index not in self._finished:
                raise GateClosed

    def read(self, index: int) -> Window:
        """Wait for a window and read it. Raises GateClosed when it will not come, TransientError when it went bad."""
        self.wait(index)
        return self._scratch.read(index)


def fill(
    scratch: Scratch,
    gate: Gate,
    finished: set[int],
    source: Iterable[tuple[int, Window]],
    offer: OfferFn,
    *,
    ahead: int,
    name: str,
    on_windows: Callable[[int], None],
) -> int:
    """Bring the scratch to `scratch.count` windows, `finished` being there already. Returns how many of these hold.

    `source` gives every window in order and is drawn to its end, `ahead` windows before the model. One that is there
    holds if it was made from the samples that `source` gives now; otherwise the file was another one then, and it is
    made again. `on_windows(done)` is called, in this thread, whenever more windows are synced, and for each that was
    there. When this function ends, in whatever way, nothing of the file is in the model any more. `name` is the
    file's, for messages.
    """
    done = resumed = len(finished)
    offered: deque[tuple[int, Future[None]]] = deque()

    def settle() -> None:
        """Wait for the oldest, and sync it with those that came back together with it."""
        nonlocal done
        offered[0][1].result()
        while offered and offered[0][1].done() and offered[0][1].exception() is None:
            gate.add(offered.popleft()[0])
            done += 1
        scratch.sync()
        on_windows(done)

    try:
        for index, samples in source:
            made_from = fingerprint(samples)
            if index in finished and scratch.was_made_from(index, made_from):
                gate.add(index)
                on_windows(done)
            else:
                done, resumed = done - (index in finished), resumed - (index in finished)
                offered.append((index, _offered(offer, scratch, index, samples, made_from, name)))
            while offered and (len(offered) >= ahead or offered[0][1].done()):
                settle()
        while offered:
            settle()
    finally:
        for _, future in offered:
            if not future.cancel():  # the model is at it, and writes into the scratch
                wait([future])
    return resumed


def _offered(
    offer: OfferFn, scratch: Scratch, index: int, samples: Window, made_from: bytes, name: str
) -> Future[None]:
    """Offer a window's channels. Equal ones are computed once, silent ones not at all.

    So a dual-mono file stays dual mono to the bit, and a dead channel stays dead.
    """
    alike = np.array(first_alike(samples))
    computed = [c for c in range(len(samples)) if alike[c] == c and samples[c].any()]
    computed_again = threading.Event()

    def keep(rows: Rows) -> None:
        if not np.isfinite(rows).all():
            raise NonFiniteOutput(
                f"{name}: the model gave NaN or Inf in window {index}",
                remedy="check the bundle with `batchsr models check`, or compute in float32",
            )
        if len(computed) < len(samples):
            few, rows = rows, np.zeros_like(samples)
            for row, channel in zip(few, computed, strict=True):
                rows[alike == channel] = row
        scratch.write(index, rows, made_from=made_from, computed_again=computed_again.is_set())

    if computed:
        return offer(samples[computed], index, keep, computed_again.set)
    silent: Future[None] = Future()
    keep(np.empty((0, samples.shape[1]), np.float32))
    silent.set_result(None)
    return silent
