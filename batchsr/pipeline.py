"""Beside the model: what reads ahead of it, what keeps its windows, and what joins them behind it.

    reader thread        model (this thread)         fsync thread      joiner thread
    read, resample,  ->  groups of windows  ->  scratch  ->  synced    cross-fade, dither, write
    cut                                           `---- Gate ------------^

The joiner follows the model through the file, a window behind, so that when the last window is done the
output is nearly done too. It takes windows from the scratch, not from memory: a long file costs no more than
a short one, and a window of an earlier attempt is one like any other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from batchsr.errors import NonFiniteOutput
from batchsr.scratch import Scratch

T = TypeVar("T")
Window = NDArray[np.float32]
"""One window of every channel, (channels, frame_samples)."""

WindowFn = Callable[[NDArray[np.float32], Sequence[int]], NDArray[np.float32]]
"""x (rows, frame_samples) float32 at 48 kHz and each row's window index -> the restored rows, same shape."""


class GateClosed(Exception):
    """The model stopped before the window that was waited for."""


class Gate:
    """Lets the joiner at a window once it is in the scratch."""

    def __init__(self, scratch: Scratch, finished: Iterable[int]) -> None:
        self._scratch = scratch
        self._finished = set(finished)
        self._closed = False
        self._changed = threading.Condition()

    def add(self, indices: Iterable[int]) -> None:
        """These are in the scratch now."""
        with self._changed:
            self._finished.update(indices)
            self._changed.notify_all()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def read(self, index: int) -> Window:
        """Wait for a window and read it. Raises GateClosed when it will not come, TransientError when it went bad."""
        with self._changed:
            self._changed.wait_for(lambda: index in self._finished or self._closed)
            if index not in self._finished:
                raise GateClosed
        return self._scratch.read(index)


def group_size(batch_windows: int, channels: int) -> int:
    """Windows of one pass: as many as fill it with all their channels, at least one."""
    return max(1, batch_windows // channels)


def fill(
    scratch: Scratch,
    gate: Gate,
    finished: set[int],
    size: int,
    source: Iterable[tuple[int, Window]],
    compute: Callable[[], WindowFn],
    *,
    name: str,
    on_windows: Callable[[int], None],
) -> int:
    """Bring the scratch to `scratch.count` windows, in groups of `size` counted from the start of the file.

    A group is computed whole or not at all, so that a row's company is always the same. `source` gives every
    window in order and is drawn only as far as needed; `compute` makes the model's function if there is
    anything to do. `on_windows(done)` is called after each group is synced, in this thread. Returns how many
    windows of an earlier attempt were kept. `name` is the file's, for messages.
    """
    groups = [range(first, min(first + size, scratch.count)) for first in range(0, scratch.count, size)]
    todo = [group for group in groups if not finished.issuperset(group)]
    kept = done = scratch.count - sum(len(group) for group in todo)
    if not todo:
        return kept
    function = compute()
    batch: list[Window] = []
    missing = iter(todo)
    group = next(missing)
    unsynced: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="fsync") as disk, closing(ahead(source, depth=2 * size)) as stream:
        for index, samples in stream:
            if index not in group:
                continue
            batch.append(samples)
            if len(batch) < len(group):
                continue
            for position, restored in zip(group, _restored(function, group, batch, name), strict=True):
                scratch.write(position, restored)
            gate.add(group)
            batch = []
            if unsynced is not None:
                unsynced.result()
                on_windows(done)
            done += len(group)
            unsynced = disk.submit(scratch.sync)
            if (following := next(missing, None)) is None:
                break
            group = following
        if unsynced is not None:
            unsynced.result()
            on_windows(done)
    return kept


def _restored(compute: WindowFn, group: range, batch: list[Window], name: str) -> list[Window]:
    """Run one group through the model. Equal channels are computed once, silent ones not at all.

    So a dual-mono file stays dual mono to the bit, and a dead channel stays dead.
    """
    rows: list[NDArray[np.float32]] = []
    indices: list[int] = []
    places: list[list[int]] = []  # for each window and channel, its row; -1 is silence
    for index, samples in zip(group, batch, strict=True):
        first_row = len(rows)
        places.append([])
        for channel in samples:
            if not channel.any():
                places[-1].append(-1)
                continue
            row = next((r for r in range(first_row, len(rows)) if np.array_equal(rows[r], channel)), len(rows))
            if row == len(rows):
                rows.append(channel)
                indices.append(index)
            places[-1].append(row)
    silence = np.zeros_like(batch[0][0])
    results = compute(np.stack(rows), indices) if rows else np.empty((0, silence.size), np.float32)
    if not np.isfinite(results).all():
        raise NonFiniteOutput(
            f"{name}: the model gave NaN or Inf in windows {group.start} to {group.stop - 1}",
            remedy="check the bundle with `batchsr models check`, or compute in float32",
        )
    return [np.stack([silence if row < 0 else results[row] for row in place]) for place in places]


def ahead(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """The same items, made up to `depth` ahead by a thread. Its error is raised here; closing stops it."""
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(entry: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                ready.put(entry, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def produce() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put((True, item)):
                    break
            else:
                put((False, None))
        except BaseException as e:  # noqa: BLE001 - handed over to the consumer, who raises it
            put((False, e))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join()
