"""Weights on their way to a GPU: unpacked by it, to what the CPU's loops make of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from batchsr.errors import BundleError
from batchsr.models.flashsr import bundle, weights
from batchsr.models.tools import make


@pytest.mark.parametrize("format", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16])
def test_a_gpu_unpacks_to_what_the_loops_do(
    format: str, dtype: mx.Dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format=format), "tests")
    by_loops = tree_flatten(bundle.load(tmp_path, dtype)[1].parameters())
    monkeypatch.setattr(weights, "on_cpu", lambda: False)
    by_gpu = dict(tree_flatten(bundle.load(tmp_path, dtype)[1].parameters()))
    assert len(by_gpu) == len(by_loops)
    for name, expected in by_loops:
        assert by_gpu[name].dtype == expected.dtype, name
        out, wanted = (np.array(a.astype(mx.float32)) for a in (by_gpu[name], expected))
        assert np.allclose(out, wanted, rtol=2e-3 if dtype == mx.float16 else 1e-6, atol=1e-7), name


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_gpu_names_a_tensor_that_is_not_finite(
    poison: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny"), "tests")
    stored = mx.load(str(tmp_path / "model.safetensors"))
    name = "voc.conv_pre.weight"
    values = np.array(stored[name])
    values.flat[-1] = poison
    stored[name] = mx.array(values)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), stored)
    monkeypatch.setattr(weights, "on_cpu", lambda: False)
    with pytest.raises(BundleError, match=f"'{name}' holds NaN or infinity"):
        bundle.load(tmp_path)


def test_numba_is_not_loaded_for_a_gpu(tmp_path: Path) -> None:
    make.write_random(tmp_path, make.config_of_size("tiny", format="int4"), "tests")
    program = (
        "import sys; from pathlib import Path\n"
        "from batchsr.models.compute import backend; backend._import_mlx()\n"
        "from batchsr.models.compute import layers\n"
        "layers.on_cpu = lambda: False\n"
        "from batchsr.models.flashsr import bundle\n"
        "bundle.load(Path(sys.argv[1]))\n"
        "assert 'numba' not in sys.modules, 'numba'\n"
        "assert 'scipy' not in sys.modules, 'scipy'\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)
