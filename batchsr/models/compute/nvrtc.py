"""CUDA kernels compiled once for a machine: NVRTC's machine code, kept in the user's cache.

MLX compiles each kernel of ours anew in every process, 2.2 s a kernel on an H100's host and a dozen of them, nearly all
of it for headers that none of them needs. Here a kernel is compiled without any header, and never again for the same
text, architecture and compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
import platformdirs

from batchsr import storage
from batchsr.errors import OutputError, ResourceError
from batchsr.temporary import write_atomic

log = logging.getLogger(__name__)

_LIBRARIES: Final = ("libnvrtc.so.13", "libnvrtc.so.12")
"""MLX has loaded one of them; the system's loader finds it by this name."""
_TYPES: Final = {mx.float32: "float", mx.float16: "__half", mx.bfloat16: "__nv_bfloat16", mx.int32: "int"}
_DIGEST_BYTES: Final = 32
_MOST_BYTES: Final = 64 << 20
"""Most bytes of a kept kernel; ours have some tens of kilobytes."""

PREAMBLE: Final = """
struct __half {
  unsigned short bits;
  __half() = default;
  __device__ __forceinline__ __half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
  __device__ __forceinline__ operator float() const {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
};
struct __nv_bfloat16 {
  unsigned short bits;
  __nv_bfloat16() = default;
  __device__ __forceinline__ __nv_bfloat16(float value) {  // rounded to even; NaN stays NaN
    const unsigned u = __float_as_uint(value);
    bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (unsigned short)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  __device__ __forceinline__ operator float() const { return __uint_as_float((unsigned)bits << 16); }
};
namespace cooperative_groups {
struct Grid {
  __device__ __forceinline__ unsigned long long thread_rank() const {
    return (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
  }
};
__device__ __forceinline__ Grid this_grid() { return Grid(); }
}
"""
"""What the kernels use of CUDA's and MLX's headers."""


def cuda_kernel(
    *, name: str, input_names: Sequence[str], output_names: Sequence[str], header: str, source: str
) -> Callable[..., list[mx.array]]:
    """In the place of mx.fast.cuda_kernel, and what it returns is called in the same way.

    Where NVRTC cannot be reached, or MLX takes no machine code, it is MLX's own.
    """
    slow = functools.cache(
        lambda: mx.fast.cuda_kernel(
            name=name, input_names=list(input_names), output_names=list(output_names), header=header, source=source
        )
    )
    asking = [f"{n}_shape" in source for n in input_names]
    asks = any(asking)
    names = (*input_names, *output_names)

    @functools.cache
    def made(
        dtypes: tuple[mx.Dtype, ...], shaped: tuple[int, ...], template: tuple[tuple[str, Any], ...]
    ) -> tuple[str, bytes]:
        constants = tuple((key, value if isinstance(value, int) else _TYPES[value]) for key, value in template)
        return _compiled(name, names, tuple(_TYPES[dtype] for dtype in dtypes), shaped, constants, header, source)

    def run(
        inputs: list[mx.array],
        template: list[tuple[str, Any]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
    ) -> list[mx.array]:
        shaped = tuple([a.ndim if wanted else 0 for wanted, a in zip(asking, inputs, strict=True)])
        try:
            symbol, code = made((*[a.dtype for a in inputs], *output_dtypes), shaped, tuple(template))
        except (OSError, RuntimeError, AttributeError) as e:
            log.debug("%s is compiled by MLX, in each process anew: %s", name, e)
            chosen: list[mx.array] = slow()(
                inputs=inputs,
                template=template,
                grid=grid,
                threadgroup=threadgroup,
                output_shapes=output_shapes,
                output_dtypes=output_dtypes,
            )
            return chosen
        results: list[mx.array] = mx.fast.precompiled_cuda_kernel(
            name=symbol,
            compiled_source=code,
            inputs=inputs,
            output_shapes=output_shapes,
            output_dtypes=output_dtypes,
            scalars=[size for a, ndim in zip(inputs, shaped, strict=True) for size in a.shape[:ndim]] if asks else [],
            grid=grid,
            threadgroup=threadgroup,
            ensure_row_contiguous=True,
        )
        return results

    return run


def text(
    symbol: str,
    names: Sequence[str],
    types: Sequence[str],
    shaped: Sequence[int],
    constants: Sequence[tuple[str, int | str]],
    header: str,
    source: str,
) -> str:
    """Return the whole program of a kernel: inputs and outputs by `names`, then the sizes of the `shaped` inputs.

    `shaped` has the number of axes of each input whose shape the source asks for, else 0.
    """
    inputs = names[: len(shaped)]
    arguments = [
        *(f"const {kind}* {n}" for n, kind in zip(inputs, types, strict=False)),
        *(f"{kind}* {n}" for n, kind in zip(names[len(inputs) :], types[len(inputs) :], strict=True)),
        *(f"int {n}_size{axis}" for n, ndim in zip(inputs, shaped, strict=True) for axis in range(ndim)),
    ]
    sizes = [
        f"  const int {n}_shape[] = {{{', '.join(f'{n}_size{axis}' for axis in range(ndim))}}};"
        for n, ndim in zip(inputs, shaped, strict=True)
        if ndim
    ]
    fixed = [
        f"  constexpr int {key} = {value};" if isinstance(value, int) else f"  using {key} = {value};"
        for key, value in constants
    ]
    return "\n".join(
        [
            PREAMBLE,
            header,
            f'extern "C" __global__ void {symbol}({", ".join(arguments)}) {{',
            *fixed,
            *sizes,
            source,
            "}\n",
        ]
    )


@functools.cache
def _compiled(
    name: str,
    names: tuple[str, ...],
    types: tuple[str, ...],
    shaped: tuple[int, ...],
    constants: tuple[tuple[str, int | str], ...],
    header: str,
    source: str,
) -> tuple[str, bytes]:
    """Return the kernel's symbol and its machine code, out of the cache or compiled. Raises OSError and
    RuntimeError."""
    mx.fast.precompiled_cuda_kernel  # noqa: B018 - AttributeError where MLX has none
    compiler = _compiler()
    given = (names, types, shaped, constants, header, source)
    architecture = str(mx.device_info()["architecture"])
    what = repr((PREAMBLE, *given, architecture, compiler.version)).encode()
    digest = hashlib.sha256(what).hexdigest()
    symbol = f"{name}_{digest[:16]}"
    path = _folder() / f"{digest[:32]}.bin"
    if (code := _kept(path)) is None:
        code = compiler.compile(text(symbol, *given), architecture)
        _keep(path, code)
    return symbol, code


def _folder() -> Path:
    return platformdirs.user_cache_path("batchsr") / "kernels"


def _kept(path: Path) -> bytes | None:
    """Return what was kept under this name, if it is whole."""
    try:
        content = storage.read_small(path, _MOST_BYTES)
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    with contextlib.suppress(ResourceError, OutputError, OSError):
        storage.make_folder(path.parent)
        write_atomic(path, hashlib.sha256(code).digest() + code)


@functools.cache
def _compiler() -> Compiler:
    errors = []
    for name in _LIBRARIES:
        try:
            return Compiler(ctypes.CDLL(name))
        except (OSError, AttributeError) as e:
            errors.append(str(e))
    raise OSError("; ".join(errors))


class Compiler:
    """NVRTC, as far as it is needed (https://docs.nvidia.com/cuda/nvrtc)."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)

    def compile(self, program: str, architecture: str) -> bytes:
        """Machine code for an architecture like sm_90, or PTX where only the driver knows it. Raises RuntimeError."""
        known = self._architectures()
        wanted = int("".join(c for c in architecture if c.isdigit()))
        exact = wanted in known
        below = [number for number in known if number <= wanted]
        target = f"sm_{wanted}" if exact else f"compute_{max(below, default=min(known))}"
        options = [f"--gpu-architecture={target}".encode(), b"--std=c++17"]
        handle = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(handle), program.encode(), b"batchsr.cu", 0, None, None)
        try:
            try:
                self._call("nvrtcCompileProgram", handle, len(options), (ctypes.c_char_p * len(options))(*options))
            except RuntimeError as e:
                raise RuntimeError(f"{e}: {self._read('ProgramLog', handle).decode(errors='replace')[:2000]}") from e
            return self._read("CUBIN" if exact else "PTX", handle)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(handle))

    def _architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        numbers = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", numbers)
        return list(numbers)

    def _read(self, what: str, handle: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", handle, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", handle, buffer)
        return buffer.raw

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with {code}")
