"""Who shares a pass, in which order, and whose trouble is whose."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future

import numpy as np
import pytest
import rig
from numpy.typing import NDArray

from batchsr.errors import BatchShrunk, ModelMemory
from batchsr.restoration import batcher as batcher_module
from batchsr.restoration.batcher import Batcher, run_beside_main

T = 4
Rows = NDArray[np.float32]


class Model:
    """Adds one. The first pass waits for `go`; `spoil` may raise for the rows of a pass."""

    frame_samples = T
    identity = rig.Identity()
    about = rig.ABOUT

    def __init__(self, batch_windows: int = 4, spoil: Callable[[Rows], None] = lambda rows: None) -> None:
        self.batch_windows = batch_windows
        self.go = threading.Event()
        self.begun = threading.Event()
        self.passes: list[list[int]] = []
        self.threads: set[int] = set()
        self.log: list[str] = []
        self._spoil = spoil

    def windows(self, timestep: int, seed: int) -> Callable[[Rows, Sequence[int]], Rows]:
        def compute(rows: Rows, indices: Sequence[int]) -> Rows:
            self.threads.add(threading.get_ident())
            self.passes.append(list(indices))
            self.log.append("pass")
            self.begun.set()
            assert self.go.wait(10)
            self._spoil(rows)
            return rows + 1

        return compute

    def shrink(self) -> bool:
        if self.batch_windows == 1:
            return False
        self.batch_windows //= 2
        return True


class Bench:
    """A model that is busy with window 0, and offers that wait behind it."""

    def __init__(self, model: Model, batcher: Batcher) -> None:
        self.model, self.batcher = model, batcher
        self.kept: dict[int, Rows] = {}
        self.first = self.offer(0)
        assert model.begun.wait(10)

    def offer(self, index: int, *, rows: int = 1, seed: int = 0, value: float | None = None) -> Future[None]:
        x = np.full((rows, T), index if value is None else value, np.float32)

        def keep(results: Rows) -> None:
            self.model.log.append(f"kept {index}")
            self.kept[index] = results

        return self.batcher.offer(x, index, 999, seed, keep)


@pytest.fixture
def make() -> Iterator[Callable[[Model], Bench]]:
    with contextlib.ExitStack() as stack:
        yield lambda model: Bench(model, stack.enter_context(rig.serving(model)))


def test_what_came_while_a_pass_was_computed_makes_up_the_next_oldest_first(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))
    offers = [bench.offer(index) for index in range(1, 8)]
    bench.model.go.set()
    for offer in offers:
        offer.result(10)
    assert bench.model.passes == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert all((rows == index + 1).all() for index, rows in bench.kept.items())
    assert len(bench.kept) == 8
    assert len(bench.model.threads) == 1
    assert threading.get_ident() not in bench.model.threads


def test_the_first_pass_waits_for_company_until_it_is_full_and_no_later_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher_module, "_QUIET_S", 60)
    monkeypatch.setattr(batcher_module, "_COMPANY_S", 60)
    model = Model(4)
    model.go.set()
    with rig.serving(model) as batcher:
        offers = [batcher.offer(np.zeros((1, T), np.float32), index, 999, 0, lambda rows: None) for index in range(4)]
        for offer in offers:
            offer.result(10)
        batcher.offer(np.zeros((1, T), np.float32), 4, 999, 0, lambda rows: None).result(10)
    assert model.passes == [[0, 1, 2, 3], [4]]


@pytest.mark.parametrize(("quiet_s", "company_s"), [(0.01, 60), (60, 0.01)])
def test_company_is_not_waited_for_long(quiet_s: float, company_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "_QUIET_S", quiet_s)
    monkeypatch.setattr(batcher_module, "_COMPANY_S", company_s)
    model = Model(4)
    model.go.set()
    with rig.serving(model) as batcher:
        batcher.offer(np.zeros((1, T), np.float32), 0, 999, 0, lambda rows: None).result(10)
    assert model.passes == [[0]]


def test_a_window_that_does_not_fit_waits_and_smaller_ones_go_first(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))
    offers = [bench.offer(1, rows=2), bench.offer(2, rows=3), bench.offer(3, rows=2), bench.offer(4, rows=6)]
    bench.model.go.set()
    for offer in offers:
        offer.result(10)
    assert bench.model.passes == [[0], [1, 1, 3, 3], [2, 2, 2], [4] * 6]
    assert bench.kept[4].shape == (6, T)


def test_windows_of_other_settings_do_not_share_a_pass(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))
    offers = [bench.offer(1), bench.offer(2, seed=7), bench.offer(3)]
    bench.model.go.set()
    for offer in offers:
        offer.result(10)
    assert bench.model.passes == [[0], [1, 3], [2]]


def test_what_a_pass_made_is_kept_before_the_next_begins(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(2))
    offers = [bench.offer(index) for index in range(1, 5)]
    bench.model.go.set()
    for offer in offers:
        offer.result(10)
    log = bench.model.log
    passes = [sorted(log[first:last]) for first, last in ((0, 2), (2, 5), (5, 8))]
    assert passes == [["kept 0", "pass"], ["kept 1", "kept 2", "pass"], ["kept 3", "kept 4", "pass"]]
    assert [log[at] for at in (0, 2, 5)] == ["pass"] * 3


def test_files_hear_of_a_pass_when_all_of_it_is_kept(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(2))
    first = bench.offer(1)
    heard: list[bool] = []
    second = bench.batcher.offer(np.zeros((1, T), np.float32), 2, 999, 0, lambda rows: heard.append(first.done()))
    bench.model.go.set()
    second.result(10)
    assert heard == [False]
    assert first.done()


def test_one_windows_trouble_is_no_other_windows(make: Callable[[Model], Bench]) -> None:
    def spoil(rows: Rows) -> None:
        if (rows == 2).any():
            raise ValueError("two")

    bench = make(Model(4, spoil))
    one, two, three = (bench.offer(index) for index in (1, 2, 3))
    bench.model.go.set()
    with pytest.raises(ValueError, match="two"):
        two.result(10)
    one.result(10)
    three.result(10)
    assert sorted(bench.kept) == [0, 1, 3]


def test_what_cannot_be_kept_is_told_to_its_file_alone(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))

    def full(rows: Rows) -> None:
        raise OSError("full")

    bad = bench.batcher.offer(np.zeros((1, T), np.float32), 1, 999, 0, full)
    good = bench.offer(2)
    bench.model.go.set()
    with pytest.raises(OSError, match="full"):
        bad.result(10)
    good.result(10)


def test_a_window_that_was_called_off_is_not_computed(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))
    one, two = bench.offer(1), bench.offer(2)
    assert one.cancel()
    assert not bench.first.cancel(), "its turn has come"
    bench.model.go.set()
    two.result(10)
    assert bench.model.passes == [[0], [2]]
    with pytest.raises(CancelledError):
        one.result(10)


def test_after_a_refusal_the_pass_in_flight_is_finished_and_nothing_else(make: Callable[[Model], Bench]) -> None:
    bench = make(Model(4))
    waiting = bench.offer(1)
    bench.batcher.refuse(InterruptedError("stop"))
    late = bench.offer(2)
    bench.model.go.set()
    bench.first.result(10)
    for refused in (waiting, late):
        with pytest.raises(InterruptedError):
            refused.result(10)
    assert bench.model.passes == [[0]]


def test_out_of_memory_halves_the_passes_and_whoever_is_in_flight_begins_anew(make: Callable[[Model], Bench]) -> None:
    def spoil(rows: Rows) -> None:
        if len(rows) > 2:
            raise ModelMemory("no memory")

    bench = make(Model(4, spoil))
    offers = [bench.offer(index) for index in range(1, 6)]
    bench.model.go.set()
    for offer in offers:
        with pytest.raises(BatchShrunk, match="batches of 2"):
            offer.result(10)
    assert bench.batcher.shrunk
    assert bench.batcher.batch_windows == 4, "a file's windows are all of one size of pass"
    with pytest.raises(BatchShrunk):
        bench.offer(6).result(10)
    bench.batcher = bench.batcher.renewed()
    assert (bench.batcher.batch_windows, bench.batcher.shrunk) == (2, False)
    bench.offer(7).result(10)
    assert bench.kept[7].shape == (1, T)


def test_out_of_memory_with_one_row_is_the_windows_own_trouble(make: Callable[[Model], Bench]) -> None:
    def spoil(rows: Rows) -> None:
        if (rows == 1).any():
            raise ModelMemory("no memory")

    bench = make(Model(1, spoil))
    one, two = bench.offer(1), bench.offer(2)
    bench.model.go.set()
    with pytest.raises(ModelMemory) as caught:
        one.result(10)
    assert not isinstance(caught.value, BatchShrunk)
    two.result(10)


def test_beside_calls_in_this_thread_what_the_other_one_submits() -> None:
    here = threading.get_ident()

    def work(executor: Executor) -> list[int]:
        assert threading.get_ident() != here
        return [executor.submit(threading.get_ident).result(10), executor.submit(max, 1, 2).result(10)]

    assert run_beside_main(work) == [here, 2]


def test_beside_passes_errors_on_both_ways() -> None:
    def work(executor: Executor) -> None:
        with pytest.raises(ZeroDivisionError):
            executor.submit(lambda: 1 / 0).result(10)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_beside_main(work)


def test_an_interrupt_of_the_model_reaches_the_file_and_the_caller() -> None:
    class Interrupted(Model):
        def windows(self, timestep: int, seed: int) -> Callable[[Rows, Sequence[int]], Rows]:
            raise KeyboardInterrupt

    ended: list[BaseException | None] = []

    def work(executor: Executor) -> None:
        batcher = Batcher(Interrupted(), executor)
        offers = [batcher.offer(np.zeros((1, T), np.float32), index, 999, index, lambda rows: None) for index in (0, 1)]
        ended.extend(offer.exception(10) for offer in offers)
        ended.append(batcher.offer(np.zeros((1, T), np.float32), 2, 999, 0, lambda rows: None).exception(10))

    with pytest.raises(KeyboardInterrupt):
        run_beside_main(work)
    assert [type(error) for error in ended] == [KeyboardInterrupt] * 3
