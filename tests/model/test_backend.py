"""Choice of device and precision. What looks at a process as a whole asks a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchsr.audio import blas
from batchsr.errors import ModelUnavailable
from batchsr.models.compute import backend

ASK = """
import json, os, sys, time
start = time.perf_counter()
{before}
from batchsr.models.compute import backend
chosen = backend.prepare(device="cpu")
import mlx.core as mx, numpy as np
from batchsr.models.compute.layers import Linear
layer = Linear(70, 130).eval()
x = np.random.default_rng(0).standard_normal((90, 70)).astype(np.float32)
expected = x @ np.array(layer.weight).T
error = float(np.abs(np.array(layer(mx.array(x))) - expected).max())
core = os.environ.get("OPENBLAS_CORETYPE")
print(json.dumps({{"label": chosen.label, "dtype": chosen.dtype, "error": error, "core": core}}))
"""


def ask(before: str = "", **variables: str) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("BATCHSR_", "OPENBLAS_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK.format(before=before)],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("before", ["", "import mlx.core", "import scipy.linalg"])
def test_the_cpu_computes_right_whatever_was_loaded_before(before: str) -> None:
    found = ask(before)
    assert (found["label"], found["dtype"], found["core"]) == ("cpu (numba)", "float32", None)
    assert found["error"] < 1e-5


BYTES = """
import hashlib
from batchsr.models.compute import backend
backend.prepare(device="cpu")
import mlx.core as mx, numpy as np
from batchsr.models.compute.activation import Activation
from batchsr.models.compute.layers import Attention, Conv1d, GroupNorm
mx.random.seed(0)
x = mx.array(np.random.default_rng(0).standard_normal((1, 3000, 32)).astype(np.float32))
for layer in (Activation(32), Conv1d(32, 32, 7, padding=3), GroupNorm(32, 1e-5, groups=4, silu=True)):
    x = layer.eval()(x)
y = Attention(2).eval()(x, x, x)
print(hashlib.sha256(np.array(y).tobytes()).hexdigest())
"""


def test_a_process_that_compiles_and_one_that_finds_it_done_give_the_same_bytes(tmp_path: Path) -> None:
    """Nor is a C++ compiler needed for either: the PATH is empty."""
    environment = {**os.environ, "PATH": str(tmp_path / "empty"), "NUMBA_CACHE_DIR": str(tmp_path)}
    answers = []
    for cached in (False, True):
        assert bool(list(tmp_path.rglob("*.nbc"))) == cached
        command = [sys.executable, "-W", "error", "-c", BYTES]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        answers.append(done.stdout)
    assert answers[0] == answers[1]


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "batchsr.models.compute.cpu", None)
    with pytest.raises(ModelUnavailable, match="pip install numba"):
        backend._import_cpu.__wrapped__()


def test_mlx_is_told_to_do_without_tf32_unless_the_user_wants_it() -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLX_")}
    program = (
        "import os; from batchsr.models.compute import backend\nbackend.prepare(); print(os.environ['MLX_ENABLE_TF32'])"
    )
    for given, expected in (({}, "0"), ({"MLX_ENABLE_TF32": "1"}, "1")):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env={**clean, **given}, capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == expected


def test_openblas_is_asked_not_to_underrate_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    wide = "avx512f avx512bw avx512dq avx512vl"
    for vendor, flags, expected in (
        ("AuthenticAMD", wide, "SkylakeX"),
        ("AuthenticAMD", "avx2", None),
        ("GenuineIntel", wide, None),
    ):
        text = f"processor : 0\nvendor_id : {vendor}\nflags : fpu {flags}\n\nprocessor : 1\nvendor_id : other\n"
        monkeypatch.setattr(Path, "read_text", lambda self, text=text: text)
        assert blas.core() == expected
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setattr(Path, "read_text", lambda self: f"vendor_id : AuthenticAMD\nflags : {wide}\n")
    assert blas.core() is None


def test_the_doctor_measures_a_product() -> None:
    found = backend.doctor()
    assert found["backend"] in ("cpu", "cuda", "metal")
    assert found["gflops"] > 0
    assert found["blas"]
    assert found["dtype"] in backend.DTYPES
