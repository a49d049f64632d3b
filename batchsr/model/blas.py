"""A fast BLAS for MLX on Linux, whose wheel for the CPU brings the reference one: 7 GFLOP/s where 100 to 300 are there.

Nothing here is needed for MLX to work. Candidates, all of which may be absent:

    mkl        Intel's, from PyPI (`pip install mkl`)
    openblas   the system's
    scipy      the OpenBLAS inside SciPy's wheel, which is installed anyway

The first two export `cblas_sgemm` itself: loaded globally before MLX, they win when the loader resolves MLX's
reference to it. SciPy's copy exports the same function under a prefix, so that it disturbs nobody; MLX's reference is
pointed to it after MLX was loaded, by writing one pointer into the table that the loader keeps for exactly that
(the slot of the procedure linkage table). That is done only where the table is found, is writable, and a product
computed afterwards is right.

Which one is taken depends on the machine alone, never on a measurement: two runs must not differ in their last bits.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.util
import mmap
import os
import platform
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

VARIABLE = "BATCHSR_BLAS"
"""`off`, the name of a candidate, or the path of a library; else the machine's own order."""
SYMBOL = "cblas_sgemm"
_OPENBLAS_CORE = "OPENBLAS_CORETYPE"


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A library that could do the products; `symbol` is its name for cblas_sgemm."""

    name: str
    path: str
    symbol: str = SYMBOL

    @property
    def prefixed(self) -> bool:
        """Whether MLX's reference must be pointed to it, as its own name is another."""
        return self.symbol != SYMBOL


def candidates() -> list[Candidate]:
    """What is installed, best first for this machine's processor."""
    if sys.platform != "linux":
        return []  # Accelerate on macOS is fast as it is
    found = {c.name: c for c in (*_mkl(), *_system_openblas(), *_scipy_openblas())}
    # MKL takes a slower path on processors that are not Intel's; a system's OpenBLAS may be old.
    order = ("mkl", "scipy", "openblas") if _processor()[0] == "GenuineIntel" else ("scipy", "openblas", "mkl")
    return [found[name] for name in order if name in found]


def wanted() -> Candidate | None:
    """The one to use: what BATCHSR_BLAS says, else the first of `candidates`."""
    choice = os.environ.get(VARIABLE, "")
    if choice == "off":
        return None
    if "/" in choice:
        return Candidate(Path(choice).name, choice)
    return next((c for c in candidates() if choice in ("", c.name)), None)


def preload(candidate: Candidate) -> ctypes.CDLL | None:
    """Load a library where MLX will look; None if it cannot be loaded. Must come before MLX is imported."""
    core = _openblas_core()
    if core:
        os.environ[_OPENBLAS_CORE] = core
    try:
        library = ctypes.CDLL(candidate.path, mode=ctypes.RTLD_LOCAL if candidate.prefixed else ctypes.RTLD_GLOBAL)
        getattr(library, candidate.symbol)
    except (OSError, AttributeError):
        return None
    finally:
        if core:
            del os.environ[_OPENBLAS_CORE]
    if candidate.name == "mkl":
        _make_mkl_repeatable(library)
    return library


def redirect(candidate: Candidate, library: ctypes.CDLL, mlx_library: Path) -> bool:
    """Point MLX's reference to cblas_sgemm at `library`; MLX must be loaded. False if it cannot: nothing changed."""
    address = ctypes.cast(getattr(library, candidate.symbol), ctypes.c_void_p).value
    try:
        slots = list(_slots(mlx_library, SYMBOL))
        base = _base_address(mlx_library)
        if not slots or base is None or address is None:
            return False
        writable = [_is_writable(base + slot) for slot in slots]
    except (OSError, ValueError, struct.error, IndexError):
        return False
    if not all(writable):
        return False
    entries = [ctypes.c_void_p.from_address(base + slot) for slot in slots]
    before = [entry.value for entry in entries]
    for entry in entries:
        entry.value = address
    if _product_is_right():
        return True
    for entry, value in zip(entries, before, strict=True):
        entry.value = value
    return False


def _product_is_right() -> bool:
    """Whether MLX multiplies matrices on the CPU as NumPy does."""
    import mlx.core as mx

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((40, 40)).astype(np.float32) for _ in range(2))
    # Cropped and transposed views, so that leading dimensions and both orders are tried.
    ours = mx.matmul(mx.array(a)[:30, 3:], mx.array(b)[:20, :37].T, stream=mx.cpu)
    return bool(np.allclose(np.array(ours), a[:30, 3:] @ b[:20, :37].T, atol=1e-4))


def _mkl() -> Iterator[Candidate]:
    # PyPI's wheel puts it into the environment's own lib folder.
    for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*")):
        yield Candidate("mkl", str(path))


def _system_openblas() -> Iterator[Candidate]:
    for name in ("libopenblas.so.0", "libopenblas.so"):
        try:
            library = ctypes.CDLL(name, mode=ctypes.RTLD_LOCAL)
        except OSError:
            continue
        if hasattr(library, SYMBOL):
            yield Candidate("openblas", name)
            return


def _scipy_openblas() -> Iterator[Candidate]:
    spec = importlib.util.find_spec("scipy")
    if spec is None or spec.origin is None:
        return
    for path in sorted((Path(spec.origin).parent.parent / "scipy.libs").glob("libscipy_openblas-*.so")):
        yield Candidate("scipy", str(path), f"scipy_{SYMBOL}")


@functools.cache
def _processor() -> tuple[str, frozenset[str]]:
    """Vendor and feature flags; empty where Linux does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "", frozenset()
    first = {key.strip(): value for key, _, value in (line.partition(":") for line in reversed(lines))}
    return first.get("vendor_id", "").strip(), frozenset(first.get("flags", "").split())


def _openblas_core() -> str | None:
    """What OpenBLAS should take this processor for; None to leave it alone.

    It knows AMD's processors with AVX-512 as ones without, at a third of their speed.
    """
    vendor, flags = _processor()
    if os.environ.get(_OPENBLAS_CORE) or vendor != "AuthenticAMD":
        return None
    return "SkylakeX" if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags else None


def _make_mkl_repeatable(library: ctypes.CDLL) -> None:
    """Same bits on every run, whatever the alignment of the arrays and the load of the machine."""
    # 2 is MKL_CBWR_AUTO: its fastest code path for this processor, with results fixed to it.
    library.MKL_CBWR_Set(2)
    library.MKL_Set_Dynamic(0)


# --- the loader's tables of a loaded library; 64-bit little-endian ELF, on x86-64 and ARM -----------------------------

_DYNAMIC_SEGMENT, _LOAD_SEGMENT = 2, 1
_STRTAB, _SYMTAB, _RELA, _RELASZ, _JMPREL, _PLTRELSZ = 5, 6, 7, 8, 23, 2
_SLOT_TYPES = {"x86_64": (6, 7), "aarch64": (1025, 1026)}  # GLOB_DAT and JUMP_SLOT


def _slots(path: Path, symbol: str) -> Iterator[int]:
    """Where, relative to its base, a library keeps the addresses of a function of another library."""
    types = _SLOT_TYPES.get(platform.machine(), ())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from _slots_of(data, symbol.encode() + b"\0", types)


def _slots_of(data: mmap.mmap, wanted_name: bytes, types: tuple[int, ...]) -> Iterator[int]:
    if data[:6] != b"\x7fELF\x02\x01":
        return
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
    loads = [(address, offset, length) for kind, _, offset, address, _, length in segments if kind == _LOAD_SEGMENT]

    def in_file(address: int) -> int:
        return next(int(address - at + offset) for at, offset, length in loads if at <= address < at + length)

    dynamic = next((offset, length) for kind, _, offset, _, _, length in segments if kind == _DYNAMIC_SEGMENT)
    tags = dict(struct.iter_unpack("<qQ", data[dynamic[0] : dynamic[0] + dynamic[1] // 16 * 16]))
    strings, symbols = in_file(tags[_STRTAB]), in_file(tags[_SYMTAB])
    for start, length in ((_JMPREL, _PLTRELSZ), (_RELA, _RELASZ)):
        if start not in tags:
            continue
        begin = in_file(tags[start])
        for address, info, _ in struct.iter_unpack("<QQq", data[begin : begin + tags[length] // 24 * 24]):
            if info & 0xFFFFFFFF not in types:
                continue
            (name,) = struct.unpack_from("<I", data, symbols + 24 * (info >> 32))
            if data[strings + name : strings + name + len(wanted_name)] == wanted_name:
                yield address


def _mappings() -> Iterator[tuple[int, int, str, str]]:
    """(start, end, permissions, file) of each part of this process's memory."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(None, 5)
        start, end = (int(part, 16) for part in fields[0].split("-"))
        yield start, end, fields[1], fields[5] if len(fields) > 5 else ""


def _base_address(path: Path) -> int | None:
    """Where a library lies in memory, None if it is not loaded."""
    name = str(path.resolve())
    return min((start for start, _, _, file in _mappings() if file == name), default=None)


def _is_writable(address: int) -> bool:
    return any(start <= address < end and "w" in permissions for start, end, permissions, _ in _mappings())
