"""MLX's `cuda_kernel` for this processor: the source of a kernel compiled as C++.

A block's threads are fibres that take turns. They all meet the same points of synchronisation in the same order, so at
each of them a thread simply lets all others come there too. What a warp does together (shuffles, `mma`, `ldmatrix`) is
done through a table between two such points, after PTX's description of who holds which element.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from batchsr.models.compute.cuda_products import PRODUCT

COMPILER = shutil.which("c++") or shutil.which("g++")
NAMES = {mx.float32: "float", mx.float16: "__half", mx.int32: "int"}

MACHINE = r"""
#include <cmath>
#include <cstddef>
#include <cstring>
#include <ucontext.h>
#include <vector>
typedef _Float16 __half;
struct __nv_bfloat16 {};
struct Dim { int x, y, z; };
struct uint4 { unsigned x, y, z, w; };
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return uint4{x, y, z, w}; }
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __device__ static
#define __forceinline__
using std::fmaf;
static float rsqrtf(float x) { return 1 / std::sqrt(x); }
#define __expf std::exp
#define __cosf std::cos
using std::fma;
using std::rint;
static float __fdividef(float a, float b) { return a / b; }

static Dim threadIdx, blockIdx, blockDim, gridDim;
namespace cooperative_groups {
struct Grid { int thread_rank() { return blockIdx.x * blockDim.x + threadIdx.x; } };
static Grid this_grid() { return Grid(); }
}
static ucontext_t scheduler;
static std::vector<ucontext_t> fibres;
static std::vector<char> finished;
static void __syncthreads() { swapcontext(&fibres[threadIdx.x], &scheduler); }
static float box[1024];
static float __shfl_xor_sync(unsigned, float value, int k) {
  box[threadIdx.x] = value;
  __syncthreads();
  float other = box[threadIdx.x ^ k];
  __syncthreads();
  return other;
}
static const char *arena;
static unsigned shared_address(const void *p) { arena = (const char *)p; return 0; }
static unsigned addresses[1024], as[1024][4], bs[1024][2];
static float half_of(unsigned word, int which) {
  __half pair[2];
  memcpy(pair, &word, 4);
  return pair[which];
}
static void load_matrices(unsigned (&a)[4], unsigned address) {
  addresses[threadIdx.x] = address;
  __syncthreads();
  int warp = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
  for (int i = 0; i < 4; ++i) memcpy(&a[i], arena + addresses[warp + i * 8 + lane / 4] + lane % 4 * 4, 4);
  __syncthreads();
}
template <typename T> static void product(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  int warp = threadIdx.x / 32 * 32, lane = threadIdx.x % 32;
  memcpy(as[threadIdx.x], a, 16);
  bs[threadIdx.x][0] = b0;
  bs[threadIdx.x][1] = b1;
  __syncthreads();
  for (int e = 0; e < 4; ++e)
    for (int k = 0; k < 16; ++k) {
      int row = lane / 4, column = lane % 4 * 2 + e % 2;
      float u = half_of(as[warp + row * 4 + k % 8 / 2][e / 2 + k / 8 * 2], k % 2);
      float v = half_of(bs[warp + column * 4 + k % 8 / 2][k / 8], k % 2);
      c[e] += u * v;
    }
  __syncthreads();
}
static void body();
static void fibre() { body(); finished[threadIdx.x] = 1; swapcontext(&fibres[threadIdx.x], &scheduler); }
static void run_all(int gx, int gy, int threads) {
  gridDim = {gx, gy, 1};
  blockDim = {threads, 1, 1};
  std::vector<std::vector<char>> stacks(threads, std::vector<char>(1 << 15));
  fibres.resize(threads);
  for (int by = 0; by < gy; ++by)
    for (int bx = 0; bx < gx; ++bx) {
      blockIdx = {bx, by, 0};
      finished.assign(threads, 0);
      for (int t = 0; t < threads; ++t) {
        getcontext(&fibres[t]);
        fibres[t].uc_stack.ss_sp = stacks[t].data();
        fibres[t].uc_stack.ss_size = stacks[t].size();
        makecontext(&fibres[t], fibre, 0);
      }
      for (int left = threads; left;)
        for (int t = 0; t < threads; ++t)
          if (!finished[t]) {
            threadIdx = {t, 0, 0};
            swapcontext(&scheduler, &fibres[t]);
            left -= finished[t];
          }
    }
}
"""


def cuda_kernel(
    *, name: str, input_names: list[str], output_names: list[str], header: str, source: str
) -> Callable[..., list[mx.array]]:
    """In the place of mx.fast.cuda_kernel."""

    def run(
        inputs: list[mx.array],
        template: list[tuple[str, Any]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
    ) -> list[mx.array]:
        constants = "".join(
            f"constexpr int {k} = {v};\n" if isinstance(v, int) else f"using {k} = {NAMES[v]};\n" for k, v in template
        )
        types = [NAMES[dtype] for dtype in (*(a.dtype for a in inputs), *output_dtypes)]
        arguments = tuple(zip((*input_names, *output_names), types, strict=True))
        library = compiled(arguments, len(inputs), constants, header, source)
        arrays = [np.ascontiguousarray(np.array(a)) for a in inputs]
        outputs = [
            np.full(shape, np.nan, np.array(mx.zeros(1, dtype)).dtype)
            for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]
        shapes = [np.array(a.shape, np.int32) for a in arrays]
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, *outputs, *shapes)]
        library.run(*pointers, -(-grid[0] // threadgroup[0]), grid[1], threadgroup[0])
        return [mx.array(y) for y in outputs]

    return run


@functools.cache
def compiled(arguments: tuple[tuple[str, str], ...], count: int, constants: str, header: str, body: str) -> ctypes.CDLL:
    """A kernel of `count` inputs with its types and constants; what its header says in PTX is done by MACHINE."""
    inputs = arguments[:count]
    declared = "".join(f"static {kind} *{name};\n" for name, kind in arguments)
    declared += "".join(f"static const int *{name}_shape;\n" for name, _ in inputs)
    names = [name for name, _ in arguments] + [f"{name}_shape" for name, _ in inputs]
    assigned = "".join(f"{name} = (decltype({name}))p_{name};\n" for name in names)
    source = MACHINE + header.removesuffix(PRODUCT) + constants + declared
    source += "static void body() {\n" + body + "\n}\n"
    source += f'extern "C" void run({", ".join(f"void *p_{name}" for name in names)}, int gx, int gy, int threads)\n'
    source += "{\n" + assigned + "run_all(gx, gy, threads);\n}\n"
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "kernel.cpp").write_text(source)
        assert COMPILER
        command = [COMPILER, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"]
        subprocess.run(command, cwd=folder, check=True)
        return ctypes.CDLL(str(folder / "kernel.so"))
    finally:
        shutil.rmtree(folder)
