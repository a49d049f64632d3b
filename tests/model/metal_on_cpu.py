"""MLX's `metal_kernel` for this processor: the source of a kernel compiled as C++, with Metal's words reserved.

The function is written out as MLX does it (write_signature in mlx/backend/metal/custom_kernel.cpp), as a template whose
inputs and outputs carry Metal's address spaces. Those are attributes without effect here, so that a variable of that
name does not compile, as it does not on a Mac.
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

COMPILER = shutil.which("c++") or shutil.which("g++")
TYPES = {mx.float32: "float", mx.float16: "half", mx.bfloat16: "bfloat16_t", mx.int32: "int"}
ADDRESS_SPACES = (
    *("thread", "device", "constant", "threadgroup", "threadgroup_imageblock", "object_data", "ray_data"),
    *("kernel", "vertex", "fragment"),
)
"""Metal Shading Language, sections 4 and 5.1: address spaces, and what a function is."""
SCALARS = {"half": "__typeof__(_Float16(0))", "uint": "unsigned", "ushort": "unsigned short", "uchar": "unsigned char"}
"""Types of the language itself, section 2.1."""
WORDS = (*ADDRESS_SPACES, *SCALARS)

LANGUAGE = "\n".join(
    [
        "#include <cmath>",
        "#include <cstddef>",
        "#include <cstdint>",
        "#include <cstring>",
        "using std::fma; using std::rint; using std::sin; using std::exp;",
        *(f"#define {word} __attribute__((unused))" for word in ADDRESS_SPACES),
        *(f"#define {word} {meaning}" for word, meaning in SCALARS.items()),
        r"""
struct bfloat16_t {
  uint16_t bits;
  bfloat16_t() = default;
  bfloat16_t(float value) {
    uint32_t u;
    memcpy(&u, &value, 4);
    bits = uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
  operator float() const {
    uint32_t u = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &u, 4);
    return value;
  }
};
struct uint3 { uint x, y, z; };
""",
    ]
)

texts: dict[str, str] = {}
"""Every kernel that was made, by its name."""


def metal_kernel(
    *, name: str, input_names: list[str], output_names: list[str], source: str, header: str = ""
) -> Callable[..., list[mx.array]]:
    """In the place of mx.fast.metal_kernel."""
    texts[name] = header + source

    def run(
        inputs: list[mx.array],
        template: list[tuple[str, Any]],
        grid: tuple[int, int, int],
        threadgroup: tuple[int, int, int],
        output_shapes: list[tuple[int, ...]],
        output_dtypes: list[mx.Dtype],
    ) -> list[mx.array]:
        assert grid[1:] == (1, 1) == threadgroup[1:]
        kinds = tuple((key, value if isinstance(value, int) else TYPES[value]) for key, value in template)
        types = [TYPES[dtype] for dtype in (*(a.dtype for a in inputs), *output_dtypes)]
        library = compiled(
            tuple(zip(input_names, types, strict=False)), tuple(output_names), tuple(types), kinds, header, source
        )
        arrays = [np.ascontiguousarray(raw(a)) for a in inputs]
        outputs = [np.full(shape, nan(dtype)) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)]
        shapes = [np.array(a.shape, np.int32) for a in inputs]
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, *outputs, *shapes)]
        library.run(*pointers, ctypes.c_uint(grid[0]))
        results = [mx.array(y) for y in outputs]
        return [
            y.view(mx.bfloat16) if dtype == mx.bfloat16 else y for y, dtype in zip(results, output_dtypes, strict=True)
        ]

    return run


def raw(a: mx.array) -> np.ndarray:
    return np.array(a.view(mx.uint16) if a.dtype == mx.bfloat16 else a)


def nan(dtype: mx.Dtype) -> Any:
    """What an output holds before anything is written: NaN of its type."""
    return {mx.float32: np.float32("nan"), mx.float16: np.float16("nan"), mx.bfloat16: np.uint16(0x7FC0)}[dtype]


@functools.cache
def compiled(
    inputs: tuple[tuple[str, str], ...],
    outputs: tuple[str, ...],
    types: tuple[str, ...],
    template: tuple[tuple[str, int | str], ...],
    header: str,
    source: str,
) -> ctypes.CDLL:
    """A library whose `run` calls the kernel once for each thread of the grid. Raises RuntimeError, as MLX does."""
    shaped = [name for name, _ in inputs if f"{name}_shape" in source]
    parameters = [f"const device {kind}* {name}" for name, kind in inputs]
    parameters += [f"device {kind}* {name}" for name, kind in zip(outputs, types[len(inputs) :], strict=True)]
    parameters += [f"const constant int* {name}_shape" for name in shaped]
    parameters += ["uint3 thread_position_in_grid"]
    formal = ", ".join(f"{'int' if isinstance(value, int) else 'typename'} {key}" for key, value in template)
    actual = ", ".join(str(value) for _, value in template)
    given = [f"({kind}*)p_{name}" for (name, _), kind in zip(inputs, types, strict=False)]
    given += [f"({kind}*)p_{name}" for name, kind in zip(outputs, types[len(inputs) :], strict=True)]
    given += [f"(const int*)p_{name}_shape" for name in shaped] + ["uint3{i, 0, 0}"]
    names = [*(name for name, _ in inputs), *outputs, *(f"{name}_shape" for name, _ in inputs)]
    program = "\n".join(
        [
            LANGUAGE,
            header,
            f"template <{formal}>\nstatic void custom_kernel({', '.join(parameters)}) {{\n{source}\n}}",
            f'extern "C" void run({", ".join(f"void* p_{name}" for name in names)}, uint count) {{',
            f"  for (uint i = 0; i < count; ++i) custom_kernel<{actual}>({', '.join(given)});\n}}",
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.cpp").write_text(program)
        assert COMPILER
        command = [COMPILER, "-std=c++17", "-O2", "-w", "-shared", "-fPIC", "-o", "kernel.so", "kernel.cpp"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"[metal::Device] Unable to build metal library from source\n{done.stderr[:2000]}")
        return ctypes.CDLL(str(Path(folder) / "kernel.so"))
