"""The spool of denoised slots: the same bytes however it was filled, and never of another recording."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from batchsr.audio.denoising import FADE_SAMPLES, Denoising, Spans
from batchsr.errors import InputChanged
from batchsr.restoration import slots
from batchsr.restoration import spool as spools
from batchsr.restoration.pipeline import GateClosed
from batchsr.restoration.spool import Spool

PAGE, SLOT_PAGES, LEAD_PAGES, DELAY = 400, 10, 3, 24
SLOT = PAGE * SLOT_PAGES
Samples = NDArray[np.float32]


@pytest.fixture(autouse=True)
def small_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PAGE": PAGE,
        "SLOT_PAGES": SLOT_PAGES,
        "LEAD_PAGES": LEAD_PAGES,
        "_STORED": SLOT_PAGES + 1,
    }.items():
        monkeypatch.setattr(spools, name, value)


class Late:
    """Halves what it hears, DELAY samples late, and a little of all it heard before: it has a memory."""

    made = 0

    def __init__(self, limit_db: float, memory: float = 0.0) -> None:
        Late.made += 1
        self.held = np.zeros(DELAY, np.float32)
        self.memory = memory
        self.state = 0.0

    def process(self, x: Samples) -> Samples:
        self.held = np.concatenate([self.held, x])
        out, self.held = self.held[: len(x)], self.held[len(x) :]
        if not self.memory:
            return np.float32(0.5) * out
        y = np.empty_like(out)
        for i, sample in enumerate(out):
            self.state = self.memory * self.state + sample
            y[i] = self.state
        return y

    def close(self) -> None:
        pass


def decided(total: int, spans: Spans | None = None) -> Denoising:
    spans = ((0, total),) if spans is None else spans
    return Denoising(True, "asked for", 12.0, 6.0, 0.9, 5.0, spans, spans, total)


def noise(total: int, channels: int = 1, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).uniform(-1, 1, (total, channels)).astype(np.float32)


def spool_of(path: Path, x: Samples, *, spans: Spans | None = None, memory: float = 0.0, **more: Any) -> Spool:
    values: dict[str, Any] = {
        "key": b"k" * 32,
        "channels": x.shape[1],
        "total_samples": len(x),
        "denoising": decided(len(x), spans),
        "make": lambda limit_db: Late(limit_db, memory),
        "delay_samples": DELAY,
        "alive": lambda: None,
        "name": "a.wav",
    }
    return Spool(path, **{**values, **more})


def blocks(x: Samples, size: int = 333) -> Iterator[Samples]:
    return (x[at : at + size] for at in range(0, len(x), size))


def filled(path: Path, x: Samples, **more: Any) -> Samples:
    with spool_of(path, x, **more) as spool:
        return np.concatenate(list(spool.fill(blocks(x))))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "total",
    [1, 23, 24, PAGE - 1, PAGE, PAGE + 1, SLOT - 1, SLOT, SLOT + 1, SLOT + PAGE, SLOT + PAGE + 1, 3 * SLOT + 77],
)
def test_what_comes_out_is_as_long_and_not_late(tmp_path: Path, total: int, channels: int) -> None:
    x = noise(total, channels)
    with spool_of(tmp_path / "a", x) as spool:
        out = np.concatenate(list(spool.fill(blocks(x))))
        again = np.concatenate(list(spool.read()))
    assert np.allclose(out, 0.5 * x, atol=1e-6)
    assert np.array_equal(out, again)


def test_a_spool_is_as_large_as_was_said(tmp_path: Path) -> None:
    for total in (1, PAGE, SLOT, SLOT + 1, 3 * SLOT + 77):
        x = noise(total, 2)
        filled(tmp_path / str(total), x)
        assert (tmp_path / str(total)).stat().st_size == spools.spool_bytes(total, 2)


def test_the_bytes_do_not_depend_on_the_sizes_of_blocks_and_slots_begin_with_their_lead(tmp_path: Path) -> None:
    x = noise(3 * SLOT + 77)
    out = filled(tmp_path / "a", x, memory=0.95)
    with spool_of(tmp_path / "b", x, memory=0.95) as spool:
        assert np.array_equal(np.concatenate(list(spool.fill([x]))), out)
    whole = Late(12.0, 0.95)
    wanted = whole.process(np.concatenate([x[:, 0], np.zeros(DELAY, np.float32)]))[DELAY:]
    assert np.abs(out[:, 0] - wanted).max() < 1e-4  # after three pages of lead 0.95^1200 is left
    assert np.allclose(out[:SLOT, 0], wanted[:SLOT], atol=1e-5)


class Killed(Exception):
    pass


def stopped_behind(x: Samples, pages: int) -> Iterator[Samples]:
    """Give a recording, and stop as a signal does once so many pages of it were read."""
    yield from blocks(x[: pages * PAGE])
    raise Killed


@pytest.mark.parametrize(
    "spans", [None, ((0, 100), (SLOT + 900, 2 * SLOT + 50)), ((2 * SLOT + 1_000, 2 * SLOT + 2_000),)]
)
@pytest.mark.parametrize("lanes", [2, 4])
def test_stopped_at_any_page_it_ends_with_the_same_bytes_and_loses_at_most_the_slots_in_hand(
    tmp_path: Path, spans: Spans | None, lanes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "side_by_side", lambda: lanes)
    x = noise(3 * SLOT + 77, 2)
    whole = filled(tmp_path / "whole", x, memory=0.9, spans=spans)
    for pages in range(0, 3 * SLOT_PAGES + 1, 4):
        path = tmp_path / f"{pages}"
        with pytest.raises(Killed), spool_of(path, x, memory=0.9, spans=spans) as spool:
            list(spool.fill(stopped_behind(x, pages)))
        with spool_of(path, x, memory=0.9, spans=spans) as spool:
            assert np.array_equal(np.concatenate(list(spool.fill(blocks(x)))), whole)
            assert spool.resumed >= pages // SLOT_PAGES - lanes


def test_who_waits_for_a_slot_can_be_stopped_and_no_thread_stays(tmp_path: Path) -> None:
    x, threads = noise(3 * SLOT), threading.active_count()
    silent = threading.Event()

    def slow() -> Iterator[Samples]:
        yield x[:SLOT]
        silent.wait(60)

    def alive() -> None:
        silent.set()
        raise Killed

    with pytest.raises(Killed), spool_of(tmp_path / "a", x, alive=alive) as spool:
        list(spool.fill(slow()))
    assert threading.active_count() == threads


class Meeting(Late):
    """Goes on once as many streams as wanted are at it at the same time."""

    barrier: threading.Barrier

    def process(self, x: Samples) -> Samples:
        if not self.held[DELAY:].size and not getattr(self, "met", False):
            self.met = True
            Meeting.barrier.wait(60)
        return super().process(x)


def test_slots_of_one_file_are_computed_side_by_side_and_the_bytes_are_those_of_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(3 * SLOT)
    one_by_one = filled(tmp_path / "a", x)
    Meeting.barrier = threading.Barrier(3)
    monkeypatch.setattr(spools, "side_by_side", lambda: 3)
    assert np.array_equal(filled(tmp_path / "b", x, make=Meeting), one_by_one)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("room", [0, 5 * PAGE * 4])
def test_pages_that_wait_are_bounded_and_all_are_given_back(
    tmp_path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, most = noise(4 * SLOT), [0]

    class Watched(slots.Ahead):
        def take(self, size: int, *, forced: bool) -> bool:
            taken = super().take(size, forced=forced)
            most[0] = max(most[0], room - self._left)
            return taken

    ahead = Watched(room)
    monkeypatch.setattr(spools, "AHEAD", ahead)
    monkeypatch.setattr(spools, "side_by_side", lambda: 4)
    assert np.allclose(filled(tmp_path / "a", x), 0.5 * x, atol=1e-6)
    assert most[0] <= room + PAGE * 4
    with pytest.raises(Killed):
        filled(tmp_path / "b", x, make=failing)
    assert ahead._left == room


def failing(limit_db: float) -> Late:
    raise Killed


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    x = noise(2 * SLOT)
    first = filled(tmp_path / "a", x)
    made = Late.made
    assert np.array_equal(filled(tmp_path / "a", x), first)
    assert Late.made == made


def test_a_page_that_went_bad_costs_its_slot(tmp_path: Path) -> None:
    x = noise(2 * SLOT)
    first = filled(tmp_path / "a", x)
    raw = bytearray((tmp_path / "a").read_bytes())
    raw[len(raw) // 4] ^= 1
    (tmp_path / "a").write_bytes(raw)
    with spool_of(tmp_path / "a", x) as spool:
        assert np.array_equal(np.concatenate(list(spool.fill(blocks(x)))), first)
        assert spool.resumed == 1


def test_slots_of_another_recording_or_of_other_settings_are_not_believed(tmp_path: Path) -> None:
    x, other = noise(2 * SLOT), noise(2 * SLOT, seed=1)
    filled(tmp_path / "a", x)
    with pytest.raises(InputChanged, match=r"a\.wav"):
        filled(tmp_path / "a", other)
    assert np.allclose(filled(tmp_path / "a", other), 0.5 * other, atol=1e-6)
    assert np.allclose(filled(tmp_path / "a", x, key=b"o" * 32), 0.5 * x, atol=1e-6)


def test_outside_of_the_spans_it_is_the_recording_to_the_bit_and_inside_all_denoised(tmp_path: Path) -> None:
    total = 4 * FADE_SAMPLES
    x = noise(total)
    span = (FADE_SAMPLES // 2, 3 * FADE_SAMPLES)
    out = filled(tmp_path / "a", x, spans=(span,))
    assert np.array_equal(out[: span[0]], x[: span[0]])
    assert np.array_equal(out[span[1] :], x[span[1] :])
    middle = slice(span[0] + FADE_SAMPLES, span[1] - FADE_SAMPLES)
    assert np.allclose(out[middle], 0.5 * x[middle], atol=1e-6)


def test_no_stream_is_made_for_slots_in_which_nothing_is_denoised(tmp_path: Path) -> None:
    x = noise(5 * SLOT)
    made = Late.made
    filled(tmp_path / "a", x, spans=((4 * SLOT + 1_000, 4 * SLOT + 2_000),))
    assert Late.made == made + 1


def test_who_waits_for_a_slot_that_will_not_come_stops(tmp_path: Path) -> None:
    with spool_of(tmp_path / "a", noise(SLOT)) as spool:
        spool.give_up()
        with pytest.raises(GateClosed):
            list(spool.read())


def test_what_was_removed_is_measured_also_where_it_was_there_already(tmp_path: Path) -> None:
    x = noise(3 * SLOT)
    for _ in range(2):
        with spool_of(tmp_path / "a", x) as spool:
            list(spool.fill(blocks(x)))
            assert spool.found()["removed_db"] == {"speech": 6.0, "pause": None}
    assert spool.found()["slots_resumed"] == 3
