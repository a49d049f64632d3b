"""Choice of device, precision and BLAS. Each question in a fresh process: MLX is loaded once only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchsr.model import backend, blas

ASK = """
import json, sys
{before}
from batchsr.model import backend, blas
chosen = backend.prepare()
import mlx.core as mx, numpy as np
a = np.random.default_rng(0).standard_normal((130, 70)).astype(np.float32)
error = float(np.abs(np.array(mx.array(a) @ mx.array(a).T) - a @ a.T).max())
print(json.dumps({{"blas": chosen.blas, "label": chosen.label, "dtype": chosen.dtype, "error": error}}))
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a BLAS is chosen on Linux only")


def ask(before: str = "", **variables: str) -> dict[str, Any]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BATCHSR_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK.format(before=before)],
        env={**clean, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout))


@LINUX
@pytest.mark.parametrize("before", ["", "import mlx.core"])
def test_the_first_candidate_is_used_and_right(before: str) -> None:
    found = ask(before)
    names = [candidate.name for candidate in blas.candidates()]
    assert found["blas"] == (names[0] if names else "")
    assert found["error"] < 1e-3
    assert found["label"] == (f"cpu ({names[0]})" if names else "cpu")


def test_the_variable_turns_it_off() -> None:
    found = ask(BATCHSR_BLAS="off")
    assert (found["blas"], found["label"]) == ("", "cpu")
    assert found["error"] < 1e-3


@pytest.mark.parametrize("choice", ["nonsense", "/absent/libblas.so", __file__])
def test_a_library_that_is_none_leaves_mlx_s_own(choice: str) -> None:
    found = ask(BATCHSR_BLAS=choice)
    assert found["blas"] == ""
    assert found["error"] < 1e-3


@LINUX
def test_openblas_is_asked_not_to_underrate_amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    wide = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})
    for vendor, flags, expected in (
        ("AuthenticAMD", wide, "SkylakeX"),
        ("AuthenticAMD", frozenset({"avx2"}), None),
        ("GenuineIntel", wide, None),
    ):
        monkeypatch.setattr(blas, "_processor", lambda v=vendor, f=flags: (v, f))
        assert blas._openblas_core() == expected
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setattr(blas, "_processor", lambda: ("AuthenticAMD", wide))
    assert blas._openblas_core() is None


@LINUX
def test_the_reference_is_found_in_mlx_s_library_and_nowhere_else() -> None:
    import mlx.core as mx

    library = Path(mx.__file__).parent / "lib" / "libmlx.so"
    slots = list(blas._slots(library, "cblas_sgemm"))
    base = blas._base_address(library)
    assert slots
    assert base is not None
    assert all(blas._is_writable(base + slot) for slot in slots)
    assert list(blas._slots(library, "no_such_function")) == []
    assert list(blas._slots(Path(__file__), "cblas_sgemm")) == []


@LINUX
def test_a_library_without_the_reference_is_left_alone(tmp_path: Path) -> None:
    found = blas.candidates()
    if not found:
        pytest.skip("no BLAS is installed")
    library = blas.preload(found[0])
    assert library is not None
    assert not blas.redirect(found[0], library, Path(sys.executable))
    assert not blas.redirect(found[0], library, tmp_path / "absent.so")


def test_the_doctor_measures_a_product() -> None:
    found = backend.doctor()
    assert found["backend"] in ("cpu", "cuda", "metal")
    assert found["gflops"] > 0
    assert found["dtype"] in backend.DTYPES
