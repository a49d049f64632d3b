"""Cutting and joining windows loses nothing, whatever the lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchsr.audio.windows import Plan, assemble, cut, fade_in

FRAME = 245_760


def split(signal: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Blocks of the given sizes, over and over, until the signal is used up."""
    blocks, at = [], 0
    while at < len(signal):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(signal[at : at + size])
        at += size
    return blocks


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    frame = draw(st.integers(1, 60))
    return Plan(draw(st.integers(0, 200)), frame, draw(st.integers(0, frame - 1)), draw(st.integers(0, 20)))


@settings(max_examples=100, deadline=None)
@given(plan=plans(), channels=st.integers(1, 3), sizes=st.lists(st.integers(1, 90), min_size=1, max_size=4))
def test_any_length_frame_and_overlap_reconstructs(plan: Plan, channels: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(plan.total_samples)
    signal = rng.standard_normal((plan.total_samples, channels)).astype(np.float32)
    windows = dict(cut(plan, split(signal, sizes)))
    assert list(windows) == list(range(plan.count))
    assert all(window.shape == (channels, plan.frame_samples) for window in windows.values())
    out = [block for block in assemble(plan, windows.__getitem__) if len(block)]
    assert np.array_equal(np.concatenate(out) if out else np.zeros((0, channels), np.float32), signal)


@settings(max_examples=100, deadline=None)
@given(plan=plans())
def test_weights_sum_to_one_and_only_neighbours_are_mixed(plan: Plan) -> None:
    total = np.zeros(plan.total_samples)
    most = np.zeros(plan.total_samples, int)
    for index in range(plan.count):
        one = assemble(plan, lambda i, index=index: np.full((1, plan.frame_samples), np.float32(i == index)))
        weight = np.concatenate(list(one))[:, 0]
        assert weight.min() >= 0
        total += weight
        most += weight > 0
    assert np.abs(total - 1).max(initial=0) <= 1e-7
    assert most.max(initial=0) <= 2


@settings(max_examples=100, deadline=None)
@given(plan=plans())
def test_every_sample_comes_from_inside_its_window(plan: Plan) -> None:
    edges = [0]
    for index in range(plan.count - 1):
        first, last = plan.joint(index)
        assert edges[-1] <= first <= last
        assert plan.start(index + 1) <= first
        assert last <= plan.start(index) + plan.frame_samples
        edges.append(last)
    assert edges[-1] <= plan.total_samples


def test_an_hour_costs_at_most_twelve_percent_more_windows() -> None:
    hour = 3600 * 48_000
    assert Plan(hour, FRAME, 0).count == 704
    assert Plan.of(hour, FRAME, 0.5).count <= 1.12 * 704


def test_the_last_of_several_windows_ends_with_the_file() -> None:
    plan = Plan.of(2 * FRAME + 17, FRAME, 0.5)
    assert plan.start(plan.count - 1) + FRAME == plan.total_samples
    assert plan.length(plan.count - 1) == FRAME


def test_overlap_zero_is_plain_concatenation_with_a_padded_last_window() -> None:
    plan = Plan(2 * FRAME + 17, FRAME, 0)
    assert [plan.start(i) for i in range(plan.count)] == [0, FRAME, 2 * FRAME]
    assert plan.borders() == [FRAME, 2 * FRAME]
    out = np.concatenate(list(assemble(plan, lambda i: np.full((1, FRAME), np.float32(i)))))[:, 0]
    assert np.array_equal(out, np.repeat(np.float32([0, 1, 2]), [FRAME, FRAME, 17]))


def test_a_short_clip_is_one_window_padded_with_zeros() -> None:
    plan = Plan.of(3, FRAME, 0.5)
    [(index, window)] = cut(plan, [np.ones((3, 2), np.float32)])
    assert (plan.count, index, window.shape, float(window.sum())) == (1, 0, (2, FRAME), 6.0)
    assert not window[:, 3:].any()


def test_both_edges_of_a_joint_are_discarded() -> None:
    plan = Plan.of(10 * FRAME, FRAME, 0.5)
    for index in range(plan.count - 1):
        first, last = plan.joint(index)
        assert first - plan.start(index + 1) >= 7_200
        assert plan.start(index) + FRAME - last >= 7_200


def test_assembling_holds_two_windows_and_asks_once_for_each() -> None:
    plan = Plan.of(7 * FRAME, FRAME, 0.5)
    asked: list[int] = []
    stream = assemble(plan, lambda i: asked.append(i) or np.zeros((1, FRAME), np.float32))
    position = 0
    for block in stream:
        position += len(block)
        assert plan.start(asked[-1]) <= position  # never further ahead than the joint needs
    assert (asked, position) == (list(range(plan.count)), plan.total_samples)


@pytest.mark.parametrize("length", [1, 2, 7, 2400])
def test_fades_are_complementary(length: int) -> None:
    assert np.abs(fade_in(length) + fade_in(length)[::-1] - 1).max() <= 1e-7


@pytest.mark.parametrize("given_samples", [99, 101])
def test_a_stream_of_another_length_than_planned_is_an_error(given_samples: int) -> None:
    with pytest.raises(ValueError, match="the plan 100"):
        list(cut(Plan(100, 40, 10), [np.zeros((given_samples, 1), np.float32)]))


@pytest.mark.parametrize("numbers", [(-1, 10, 0), (10, 0, 0), (10, 10, 10), (10, 10, -1)])
def test_senseless_plans_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"plan|neighbouring"):
        Plan(*numbers)


def test_no_window_lies_beyond_the_last() -> None:
    with pytest.raises(IndexError, match="window 1 of 1"):
        Plan(5, 10, 2).start(1)
