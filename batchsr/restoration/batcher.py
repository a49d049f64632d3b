"""Windows of many files on their way through one model, a pass at a time.

    file's thread   offer(window) --.                            .--> kept, and its Future is done
    file's thread   offer(window) ---+--> waiting, oldest first --+--> kept, and its Future is done
    ...                                    |                      |
    the model's one thread                 '-- pass of up to `batch_windows` rows

The model never waits while there is a window, and never for one: what came while a pass was computed makes up the
next. The first pass alone waits a moment for company, since a window would take it as long as all. Who shares a pass is
chance, and may be, because a row's result does not depend on its company (FlashSR fills every pass up to the same
shape). What a pass made is kept, by a few threads at once, before the next one begins, so that a process that is killed
has lost one pass at most.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

import numpy as np

from batchsr.errors import BatchShrunk, ModelMemory
from batchsr.models.interface import Identity as Identity
from batchsr.models.interface import Rows as Rows
from batchsr.models.interface import WindowFn as WindowFn
from batchsr.models.interface import WindowModel as WindowModel

T = TypeVar("T")
KeepFn = Callable[[Rows], None]
"""Takes the restored rows of one window to where they are safe from the end of the process."""
NoteFn = Callable[[], None]
"""Is told, before they are kept, that some of a window's rows were computed again in float32."""
_KEEPERS: Final = 4
"""A GPU waits while windows are kept. One by one, 16 took 28 ms beside busy files; by four threads at once, told to
their files when all are kept, 16 ms (two cores)."""
_QUIET_S: Final = 0.03
_COMPANY_S: Final = 0.3
"""The first pass begins when it is full, or no window came for so long, or after the latter at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Offer:
    rows: Rows
    index: int
    timestep: int
    seed: int
    keep: KeepFn
    note: NoteFn
    future: Future[None]

    def goes_with(self, other: _Offer) -> bool:
        """Return whether one call of the model can do both."""
        return (self.timestep, self.seed) == (other.timestep, other.seed)


class Batcher:
    """A model behind a queue of windows, with passes of one size for as long as it lives.

    `thread` is an executor of one thread (`beside`), the only one in which the model is called. Any thread may offer
    windows.
    """

    def __init__(self, model: WindowModel, thread: Executor) -> None:
        self.frame_samples = model.frame_samples
        self.batch_windows = model.batch_windows
        """Rows of one pass; part of what a window's bytes may depend on."""
        self.identity = model.identity
        self.about = model.about
        self._model = model
        self._thread = thread
        self._keepers = ThreadPoolExecutor(_KEEPERS, thread_name_prefix="keep")
        self._waiting: list[_Offer] = []
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._is_first = True
        self._refusal: BaseException | None = None

    def offer(
        self, rows: Rows, index: int, timestep: int, seed: int, keep: KeepFn, note: NoteFn = lambda: None
    ) -> Future[None]:
        """Put one window into the queue: rows (R, frame_samples), one for each channel to compute, R at least 1.

        `keep(restored)` is called in another thread. The Future is done when all of the pass are kept; it has the error
        of `keep` or the model's otherwise, or that of `refuse`. It can be cancelled until the window's turn has come.
        """
        offer = _Offer(rows, index, timestep, seed, keep, note, Future())
        with self._lock:
            if self._refusal is None:
                self._waiting.append(offer)
                self._came.notify_all()
                self._thread.submit(self._pass).add_done_callback(self._passed)
            else:
                offer.future.set_exception(self._refusal)
        return offer.future

    def refuse(self, reason: BaseException) -> None:
        """Compute nothing more: every window whose turn has not come, and every later one, gets the reason."""
        with self._lock:
            self._refusal = self._refusal or reason
            refused, self._waiting = self._waiting, []
        for offer in refused:
            if offer.future.set_running_or_notify_cancel():
                offer.future.set_exception(reason)

    @property
    def shrunk(self) -> bool:
        """Whether it refuses because the passes became smaller: `renewed` goes on."""
        return isinstance(self._refusal, BatchShrunk)

    def renewed(self) -> Batcher:
        """Return the same model in the same thread, with passes of the size it has now."""
        return Batcher(self._model, self._thread)

    def _pass(self) -> None:
        if self._is_first:
            self._is_first = False
            self._wait_for_company()
        offers = self._next()
        try:
            if offers:
                self._compute(offers)
        except BaseException as e:
            self._keepers.shutdown()  # whoever hears of the error may close what is being written
            for offer in offers:
                if not offer.future.done():
                    offer.future.set_exception(e)
            raise

    def _passed(self, done: Future[None]) -> None:
        """Look after each pass: if the model's thread comes to its end, so do the files."""
        if (error := done.exception()) is not None:
            self.refuse(error)

    def _wait_for_company(self) -> None:
        """Wait until a pass is full, or as long as _QUIET_S and _COMPANY_S say."""
        latest_s = time.monotonic() + _COMPANY_S
        with self._came:
            while self._waiting and sum(len(offer.rows) for offer in self._waiting) < self.batch_windows:
                if not self._came.wait(min(_QUIET_S, latest_s - time.monotonic())) or time.monotonic() >= latest_s:
                    break

    def _next(self) -> list[_Offer]:
        """Return the windows of the next pass, the oldest and those that go with it; none if an earlier pass took them
        all."""
        chosen: list[_Offer] = []
        left: list[_Offer] = []
        rows = 0
        with self._lock:
            for offer in self._waiting:
                if chosen and not (offer.goes_with(chosen[0]) and rows + len(offer.rows) <= self.batch_windows):
                    left.append(offer)
                elif offer.future.set_running_or_notify_cancel():
                    chosen.append(offer)
                    rows += len(offer.rows)
            self._waiting = left
        return chosen

    def _compute(self, offers: list[_Offer]) -> None:
        """Compute one pass. A window's trouble is its own: if a pass of several fails, each is computed alone."""
        indices = [offer.index for offer in offers for _ in offer.rows]
        try:
            function = self._model.windows(offers[0].timestep, offers[0].seed)
            results = function(np.concatenate([offer.rows for offer in offers]), indices)
        except ModelMemory as e:
            self._shrink(offers, e)
        except Exception as e:  # noqa: BLE001 - handed over to the files' threads, which raise it
            if len(offers) == 1:
                offers[0].future.set_exception(e)
            else:
                for offer in offers:
                    self._compute([offer])
        else:
            again = set(getattr(function, "computed_again", ()))  # most models have one precision
            ends = np.cumsum([len(offer.rows) for offer in offers]).tolist()
            for offer, end in zip(offers, ends, strict=True):
                if again & set(range(end - len(offer.rows), end)):
                    offer.note()
            self._keep(offers, results)

    def _keep(self, offers: list[_Offer], results: Rows) -> None:
        """Keep all of a pass, and only then tell the files, which set to work when they hear of it."""
        ends = np.cumsum([len(offer.rows) for offer in offers])
        errors = list(self._keepers.map(_error, offers, np.split(results, ends[:-1])))
        for offer, error in zip(offers, errors, strict=True):
            if error is None:
                offer.future.set_result(None)
            else:
                offer.future.set_exception(error)

    def _shrink(self, offers: list[_Offer], error: ModelMemory) -> None:
        """Make passes smaller: a file's windows are all of one size of pass, so those in flight begin anew."""
        if self._model.shrink():
            error = BatchShrunk(f"{error.message}: going on in batches of {self._model.batch_windows}")
            self.refuse(error)
        for offer in offers:
            offer.future.set_exception(error)


def _error(offer: _Offer, results: Rows) -> Exception | None:
    """Return what went wrong with keeping a window."""
    try:
        offer.keep(results)
    except Exception as e:  # noqa: BLE001 - as above
        return e
    return None


def run_beside_main(work: Callable[[Executor], T]) -> T:
    """Call `work(here)` in a thread of its own, and in this one what it submits to `here`. Its result, or its error.

    For MLX, whose arrays belong to the thread that made them: called in a thread that ends before the process does, it
    aborts the process at its end (0.32). An error that is no Exception, like Ctrl-C, ends the work as well.
    """
    here = _Here()
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as other:
        outcome = other.submit(work, here)
        outcome.add_done_callback(lambda _: here.shutdown())
        try:
            here.serve()
        except BaseException as e:
            here.abandon(e)
            raise
        return outcome.result()


class _Here(Executor):
    """Calls what is submitted in the thread that calls `serve`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._calls.put((future, functools.partial(fn, *args, **named)))
        if self._error is not None:
            self.abandon(self._error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._calls.put(None)

    def serve(self) -> None:
        """Call what is submitted until `shutdown`."""
        while (call := self._calls.get()) is not None:
            future, function = call
            try:
                future.set_result(function())
            except BaseException as e:
                future.set_exception(e)
                if not isinstance(e, Exception):
                    raise

    def abandon(self, error: BaseException) -> None:
        """Give up: what waits, and what is still submitted, gets the error."""
        self._error = error
        with contextlib.suppress(queue.Empty):
            while call := self._calls.get_nowait():
                call[0].set_exception(error)
