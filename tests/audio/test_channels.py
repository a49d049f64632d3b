"""Equal and silent channels are recognised over a whole stream, and mixing is the mean."""

from __future__ import annotations

import numpy as np
import pytest

from batchsr.audio.channels import Alikeness, first_alike, mix_down


def seen(signal: np.ndarray, parts: int = 3) -> Alikeness:
    alike = Alikeness(signal.shape[1])
    for block in np.array_split(signal.astype(np.float32), parts):
        alike.add(block)
    return alike


NOISE = np.random.default_rng(0).standard_normal((1000, 6))


def test_dual_mono_is_found() -> None:
    alike = seen(NOISE[:, [0, 0]])
    assert (alike.dual_mono, alike.first_alike) == (True, (0, 0))


@pytest.mark.parametrize("at", [0, 500, 999])
def test_one_sample_of_difference_makes_it_stereo(at: int) -> None:
    signal = NOISE[:, [0, 0]].copy()
    signal[at, 1] += 1e-6
    assert not seen(signal).dual_mono


def test_equal_pairs_among_six_are_found() -> None:
    assert seen(NOISE[:, [0, 1, 0, 2, 1, 3]]).first_alike == (0, 1, 0, 3, 1, 5)
    assert first_alike(NOISE[:, [0, 1, 0, 2, 1, 3]].T.astype(np.float32)) == (0, 1, 0, 3, 1, 5)


def test_mono_is_not_dual_mono() -> None:
    assert not seen(NOISE[:, :1]).dual_mono


def test_a_dead_channel_is_found() -> None:
    signal = NOISE[:, :3] * [1, 0, 1]
    assert seen(signal).silent == (False, True, False)


def test_mixing_is_the_mean_and_keeps_the_sizes_of_blocks() -> None:
    blocks = list(mix_down(np.array_split(NOISE.astype(np.float32), 4)))
    assert [block.shape for block in blocks] == [(250, 1)] * 4
    assert np.allclose(np.concatenate(blocks)[:, 0], NOISE.mean(axis=1), atol=1e-6)


def test_mixing_full_scale_does_not_clip() -> None:
    [block] = mix_down([np.ones((10, 8), np.float32)])
    assert block.max() == 1.0
