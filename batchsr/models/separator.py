"""Separates music into its stems with an ONNX network, chunk by chunk.

A chunk is what the network takes in at once (7.8 s); neighbours share a quarter and are cross-faded. Chunks are
counted from the recording's start and know nothing of each other, so the samples depend neither on where an attempt
began nor on threads, and never more than a few chunks are in memory. Each chunk is kept in a file like that of the
windows once it was computed (batchsr.restoration.scratch is handed in), and a later attempt takes it from there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from batchsr.audio.resample import convert_blocks, reblock
from batchsr.audio.windows import SAMPLE_RATE_HZ, Block
from batchsr.errors import StageFailed
from batchsr.settings import extras
from batchsr.settings.profile import STEMS as STEMS

RATE_HZ: Final = 44_100
VERSION: Final = 1
_SHARED: Final = 0.25
"""Share of a chunk that it has in common with the next."""

Samples = NDArray[np.float32]


class Store(Protocol):
    """Where finished chunks are kept; as `batchsr.restoration.scratch.Scratch`."""

    def finished(self) -> set[int]: ...
    def was_made_from(self, index: int, made_from: bytes) -> bool: ...
    def read(self, index: int) -> Samples: ...
    def write(self, index: int, samples: Samples, *, made_from: bytes) -> None: ...
    def sync(self) -> None: ...


class Separator:
    """One network, loaded: its chunks are `chunk_samples` long at 44.1 kHz.

    Behind the separation a stem's channels stand side by side, in the order of STEMS.
    """

    def __init__(self, path: Path) -> None:
        """Raises StageFailed for what is no such network."""
        self._session, self._path = _session(path), path
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(one.shape) for one in (*taken, *given)]
        if len(taken) != 1 or len(given) != 1 or not _fits(*shapes):
            raise StageFailed(
                f"{path} is no network that separates into {len(STEMS)} stems: its shapes are {shapes}",
                remedy="it takes (1, 2, samples) and gives (1, 4, 2, samples), of fixed length, as htdemucs does",
            )
        self._input, self._output = taken[0].name, given[0].name
        self.chunk_samples: int = shapes[0][2]
        self.shared_samples = int(self.chunk_samples * _SHARED)
        self.stride_samples = self.chunk_samples - self.shared_samples

    def chunks(self, total_samples: int) -> int:
        """Return how many chunks a recording of so many samples at 48 kHz has."""
        return chunks(_at_44_1(total_samples), self.chunk_samples, self.stride_samples)

    def run(
        self,
        blocks: Iterable[Block],
        total_samples: int,
        store: Store,
        fingerprint: Callable[[Samples], bytes],
        alive: Callable[[], None],
    ) -> Iterator[Block]:
        """Yield (n, 4C) at 48 kHz for a stream (n, C) at 48 kHz: the channels of each stem side by side.

        `fingerprint` tells what a chunk was made from. `alive` is called for each chunk, and stops it by raising.
        Raises StageFailed, ResourceError.
        """
        at_44_1 = convert_blocks(blocks, SAMPLE_RATE_HZ, RATE_HZ, _at_44_1(total_samples))
        stems = self._joined(at_44_1, _at_44_1(total_samples), store, fingerprint, alive)
        yield from convert_blocks(stems, RATE_HZ, SAMPLE_RATE_HZ, total_samples)

    def _joined(
        self,
        blocks: Iterable[Block],
        total: int,
        store: Store,
        fingerprint: Callable[[Samples], bytes],
        alive: Callable[[], None],
    ) -> Iterator[Block]:
        finished = store.finished()
        left, shared, stride = total, self.shared_samples, self.stride_samples
        rising = ((np.arange(shared, dtype=np.float32) + np.float32(0.5)) / np.float32(max(shared, 1)))[:, None]
        before: Samples | None = None
        for index, chunk in enumerate(self._cut(blocks, total)):
            alive()
            made_from = fingerprint(chunk)
            if index in finished and store.was_made_from(index, made_from):
                came = store.read(index)
            else:
                came = self._separated(chunk)
                store.write(index, came, made_from=made_from)
                store.sync()
            out = came.T.copy()
            if before is not None:
                out[:shared] = rising * out[:shared] + (1 - rising) * before
            before = out[stride:]
            yield out[: min(stride, left)]
            left -= min(stride, left)
        if left and before is not None:
            yield before[:left]

    def _cut(self, blocks: Iterable[Block], total: int) -> Iterator[Samples]:
        """Yield each chunk, (C, chunk_samples), filled up with silence behind the end."""
        held: Samples | None = None
        count = chunks(total, self.chunk_samples, self.stride_samples)
        given = 0
        for block in reblock(blocks, self.stride_samples):
            if held is None:
                held = np.zeros((0, block.shape[1]), np.float32)
            held = np.concatenate([held, block])
            while given < count and len(held) >= self.chunk_samples:
                yield np.ascontiguousarray(held[: self.chunk_samples].T)
                held, given = held[self.stride_samples :], given + 1
        while held is not None and given < count:
            rest = held[: self.chunk_samples]
            full = np.zeros((self.chunk_samples, held.shape[1]), np.float32)
            full[: len(rest)] = rest
            yield np.ascontiguousarray(full.T)
            held, given = held[self.stride_samples :], given + 1

    def _separated(self, chunk: Samples) -> Samples:
        """Return (4C, n) for (C, n): channels go in as pairs, a single one on both sides."""
        channels = len(chunk)
        stems = np.zeros((len(STEMS), *chunk.shape), np.float32)
        for first in range(0, channels, 2):
            pair = chunk[first : first + 2]
            if not pair.any():
                continue
            came = self._asked(pair if len(pair) == 2 else np.repeat(pair, 2, axis=0))
            stems[:, first : first + len(pair)] = came if len(pair) == 2 else came.mean(axis=1, keepdims=True)
        if not np.isfinite(stems).all():
            raise StageFailed(f"{self._path} gave NaN or Inf", remedy="try the network in full precision")
        return stems.reshape(-1, chunk.shape[1])

    def _asked(self, pair: Samples) -> Samples:
        try:
            came: Samples = self._session.run([self._output], {self._input: pair[None]})[0][0]
        except Exception as e:  # the library has its own kinds, without a common one
            raise StageFailed(
                f"{self._path} failed at a chunk: {str(e)[:300]}", remedy="check the file; or leave out --stems"
            ) from e
        return came


def chunks(samples: int, chunk_samples: int, stride_samples: int) -> int:
    """Return how many chunks cover so many samples; there is one at least."""
    return 1 + max(0, -(-(samples - chunk_samples) // stride_samples))


def mixed(block: Block) -> Block:
    """Return the sum (n, C) of all stems (n, 4C)."""
    stems = block.reshape(len(block), len(STEMS), -1)
    summed: Block = stems[:, 0] + stems[:, 1] + stems[:, 2] + stems[:, 3]
    return summed


def _at_44_1(samples: int) -> int:
    return -(-samples * RATE_HZ // SAMPLE_RATE_HZ)


def _fits(taken: list[Any], given: list[Any]) -> bool:
    fixed = len(taken) == 3 and isinstance(taken[2], int) and taken[2] >= 8
    return fixed and taken[:2] == [1, 2] and given == [1, len(STEMS), 2, taken[2]]


@functools.lru_cache(maxsize=1)
def _session(path: Path) -> Any:
    with extras.in_use("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more would round in another order
        options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # the library has its own kinds, without a common one
        raise StageFailed(
            f"{path} is no ONNX network that can be loaded: {str(e)[:300]}", remedy="fetch the file again"
        ) from e
