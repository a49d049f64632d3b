"""CUDA kernels are compiled once for a machine; and by NVRTC itself where it is installed, which needs no GPU."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from batchsr.models.compute import cuda, cuda_kernels, kernels, nvrtc


def nvrtc_library() -> ctypes.CDLL | None:
    """NVRTC of the system or of a wheel."""
    found = importlib.util.find_spec("nvidia")
    wheels = [p for root in (found.submodule_search_locations or [] if found else []) for p in Path(root).glob("*/lib")]
    for name in (*nvrtc._LIBRARIES, *(str(p / n) for p in wheels for n in nvrtc._LIBRARIES)):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def programs(kind: str) -> dict[str, str]:
    """Every kernel of ours as a whole program for values of a type."""
    found = {}
    for name, (inputs, output, header, body) in cuda_kernels.SOURCES.items():
        names = (*inputs, output)
        half = "__half" if kind == "float" else kind
        if name == "attention" and kind == "float":
            continue
        constants: list[tuple[str, int | str]] = [("T", kind)]
        types = ["float" if n in ("options", "partial") else "int" if n == "sizes" else kind for n in names]
        if name == "small_norm":
            constants += [("V", 4)]
        if name == "attention":
            constants += [("D", cuda.ATTENTION_CHANNELS)]
        if name == "conv":
            channels, size = 48, 4 if kind == "float" else 2
            constants += [("H", half), ("C", channels), ("MT", cuda.CONV_PRODUCTS[channels, size])]
            constants += [("REACH", cuda.MAX_REACH), ("PARTS", 2 if kind == "float" else 1)]
            types = [half if n == "w" else "int" if n == "options" else kind for n in names]
        shaped = [3 if f"{n}_shape" in body else 0 for n in inputs]
        found[name] = nvrtc.text("k", names, types, shaped, constants, header, body)
    names = ("x", "up", "down", "frequency", "gain", "bias", "y")
    types = [kind, *["float"] * 4, kind, kind]
    constants = [("T", kind), ("N", kernels.OUTPUTS)]
    source = kernels.CUDA_THREAD + kernels.FORWARD
    found["activation"] = nvrtc.text("k", names, types, [3, 0, 0, 0, 0, 0], constants, kernels.CUDA_HEADER, source)
    return found


@pytest.mark.parametrize("kind", ["float", "__half", "__nv_bfloat16"])
def test_every_kernel_compiles_without_a_header(kind: str) -> None:
    library = nvrtc_library()
    if library is None:
        pytest.skip("NVRTC is not installed (pip install nvidia-cuda-nvrtc)")
    compiler = nvrtc.Compiler(library)
    for name, program in programs(kind).items():
        assert "#include" not in program
        assert compiler.compile(program, "sm_90").startswith(b"\x7fELF"), name
    newer = compiler.compile(programs(kind)["add"], "sm_999")
    assert b".target sm_" in newer, "PTX, for a device that is newer than the compiler"
    with pytest.raises(RuntimeError, match="nonsense"):
        compiler.compile("nonsense;", "sm_90")


class FakeCompiler:
    version = (13, 0)

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def compile(self, program: str, architecture: str) -> bytes:
        assert architecture == "sm_90"
        self.compiled.append(program)
        return b"machine code of " + program.encode()[-40:]


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    fake = FakeCompiler()
    monkeypatch.setattr(nvrtc.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(nvrtc, "_compiler", lambda: fake)
    monkeypatch.setattr(mx, "device_info", lambda: {"architecture": "sm_90"})
    nvrtc._compiled.cache_clear()
    return fake


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    def launch(**given: Any) -> list[mx.array]:
        calls.append(given)
        return [
            mx.zeros(shape, dtype) for shape, dtype in zip(given["output_shapes"], given["output_dtypes"], strict=True)
        ]

    monkeypatch.setattr(mx.fast, "precompiled_cuda_kernel", launch)
    return calls


def twice(x: mx.array) -> mx.array:
    """A kernel as ours are written and called."""
    kernel = nvrtc.cuda_kernel(
        name="twice", input_names=["x", "by"], output_names=["y"], header="", source="y[0] = T(x_shape[1] * by[0]);"
    )
    (y,) = kernel(
        inputs=[x, mx.array([2.0])],
        template=[("T", x.dtype), ("N", 4)],
        grid=(256, 1, 1),
        threadgroup=(64, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return y


def test_a_kernel_is_given_its_arrays_and_then_the_sizes_that_it_asks_for(
    compiler: FakeCompiler, launched: list[dict[str, Any]]
) -> None:
    twice(mx.zeros((3, 5), mx.float16))
    (program,) = compiler.compiled
    assert "(const __half* x, const float* by, __half* y, int x_size0, int x_size1)" in program
    assert "const int x_shape[] = {x_size0, x_size1};" in program
    assert "using T = __half;" in program
    assert "constexpr int N = 4;" in program
    assert launched[0]["scalars"] == [3, 5]
    assert f"void {launched[0]['name']}(" in program
    assert (launched[0]["grid"], launched[0]["threadgroup"]) == ((256, 1, 1), (64, 1, 1))
    assert launched[0]["ensure_row_contiguous"]


def test_a_kernel_is_compiled_once_for_a_machine_and_anew_when_what_was_kept_is_damaged(
    compiler: FakeCompiler, launched: list[dict[str, Any]], tmp_path: Path
) -> None:
    for _ in range(3):
        twice(mx.zeros((3, 5)))
        nvrtc._compiled.cache_clear()  # as in another process
    assert len(compiler.compiled) == 1
    assert len({call["compiled_source"] for call in launched}) == 1
    (kept,) = tmp_path.rglob("*.bin")
    kept.write_bytes(kept.read_bytes()[:-1])
    twice(mx.zeros((3, 5)))
    assert len(compiler.compiled) == 2
    twice(mx.zeros((3, 5), mx.float16))
    assert len(compiler.compiled) == 3, "another type is another kernel"
    compiler.version = (13, 1)
    nvrtc._compiled.cache_clear()
    twice(mx.zeros((3, 5)))
    assert len(compiler.compiled) == 4, "and so is another compiler's"


def test_a_cache_that_cannot_be_written_is_done_without(
    compiler: FakeCompiler, launched: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "batchsr").write_text("a file where the folder should be")
    twice(mx.zeros((3, 5)))
    assert len(launched) == 1


def test_without_nvrtc_mlx_compiles_the_kernel_itself(compiler: FakeCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise OSError("libnvrtc.so.13: cannot open shared object file")

    def make(**given: Any) -> Any:
        assert given["input_names"] == ["x", "by"]
        return lambda inputs, **_: [inputs[0] * 2]

    monkeypatch.setattr(nvrtc, "_compiler", none)
    monkeypatch.setattr(mx.fast, "cuda_kernel", make)
    assert np.array_equal(np.array(twice(mx.ones((3, 5)))), np.full((3, 5), 2.0))
