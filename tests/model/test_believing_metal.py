"""The program while it believes that it runs on a Mac: loading, doctor, work, limits, and what it says when stuck."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rig
from program import Program

from batchsr.models.flashsr.networks import row_bytes
from batchsr.models.tools import make

from . import metal_on_cpu

BELIEVING = Path(__file__).resolve().parent.parent / "believing_metal"
pytestmark = pytest.mark.skipif(not metal_on_cpu.COMPILER, reason="no C++ compiler is installed")


@pytest.fixture
def mac(program: Program) -> Program:
    """The program on a Mac of 16 GB, with a cache of its own."""
    paths = [str(BELIEVING), os.environ.get("PYTHONPATH", "")]
    program.environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "XDG_CACHE_HOME": str(program.folder / "cache"),
        "BELIEVED_LOG": str(program.folder / "limits"),
    }
    return program


def limits(mac: Program) -> list[dict[str, int]]:
    path = mac.folder / "limits"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_doctor_and_work_of_two_files_on_a_mac(mac: Program, bundle: Path) -> None:
    """One test, since the self-test takes its time here; it is made once for the cache that both share."""
    found: dict[str, Any] = json.loads(mac.run("doctor", "--json").stdout)
    assert (found["backend"], found["dtype"], found["batch_windows"]) == ("metal", "float16", 1)
    assert found["device"] == "Apple M1"
    assert found["kernels"] == dict.fromkeys(("float32", "float16", "bfloat16"), "activation: kernel")
    assert found["self_test"].startswith("float16: passed")

    sources = [rig.record(mac.folder / "in" / f"{name}.wav", 0.6, seed=n) for n, name in enumerate("ab")]
    rig.enqueue(mac.db, sources, mac.folder / "out")
    worked = mac.run("work", "--variant", bundle)
    assert [job["state"] for job in mac.jobs()] == ["done", "done"]
    assert "for metal in float16" in worked.stderr
    assert "testing" not in worked.stderr, "doctor did so"
    sidecar = json.loads((mac.folder / "out" / "a_upsampled.wav.json").read_text())
    assert (sidecar["model"]["device"], sidecar["model"]["dtype"]) == ("metal", "float16")
    memory = [entry for entry in limits(mac) if "memory_limit" in entry]
    assert memory, "a limit for one row, too"
    needed = row_bytes(make.config_of_size("tiny"), 2)
    assert all(entry["memory_limit"] == entry["active"] + needed for entry in memory)


@pytest.mark.parametrize(
    ("gigabytes", "cache"), [("8", 5_726_633_984 // 8), ("16", 12_713_115_648 // 8), ("64", 4 << 30)]
)
def test_limits_on_macs_of_all_sizes(mac: Program, gigabytes: str, cache: int) -> None:
    """8 GB: the published size fits, in float16; the cache is an eighth of the working set, 4 GiB at most."""
    program = (
        "from batchsr.models.compute import backend\n"
        "chosen = backend.prepare()\n"
        "from batchsr.models import batch_size\n"
        "from batchsr.models.identity import ModelIdentity\n"
        "from batchsr.models.flashsr.networks import row_bytes\n"
        "from batchsr.models.tools import make\n"
        "identity = ModelIdentity('int4', None, 'r', 'ab' * 32, chosen.dtype, chosen.label, chosen.mlx_version)\n"
        "needed = row_bytes(make.config_of_size('published'), 2)\n"
        "print(batch_size.fitting(chosen.batch_windows, identity, needed), needed)\n"
    )
    environment = mac.environment | {"BELIEVED_GB": gigabytes}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    rows, needed = map(int, done.stdout.split())
    assert rows == 1
    (first, second) = limits(mac)
    assert first["cache_limit"] == cache
    assert second["memory_limit"] == second["active"] + needed
    weights_bytes = 1_280_000_000
    assert weights_bytes + needed + cache < int(gigabytes) * 0.7e9, "beside the system and other programs"


def test_where_no_kernel_compiles_plain_operations_compute_and_doctor_says_why(mac: Program) -> None:
    program = "import json; from batchsr.models.compute import backend; print(json.dumps(backend.doctor()))"
    environment = mac.environment | {"BELIEVED_FAULT": "kernels"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    kernels = json.loads(done.stdout)["kernels"]
    assert set(kernels) == {"float32", "float16", "bfloat16"}
    for said in kernels.values():
        assert said == "activation: plain operations ([metal::Device] Unable to build metal library from source)"
    assert "slower plain operations" in done.stderr


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_without_a_gpu_in_reach_a_sentence_says_so_also_for_the_cpu(mac: Program, device: str) -> None:
    source = rig.record(mac.folder / "a.wav", 0.3)
    away = {"BELIEVED_FAULT": "device"}
    done = mac.run("upsample", source, "--variant", "tiny", "--device", device, environment=away, code=69)
    assert "reaches no Metal device" in done.stderr
    assert "logged in at the Mac" in done.stderr
    assert "No Metal device available" in done.stderr
    told = mac.run("doctor", "--device", device, environment=away, code=69)
    assert "reaches no Metal device" in told.stdout
    assert "sqlite" in told.stdout, "the rest is said all the same"


def test_the_cpu_s_loops_compute_on_a_mac_if_asked(mac: Program, bundle: Path) -> None:
    source = rig.record(mac.folder / "a.wav", 0.3)
    done = mac.run("-v", "upsample", source, "--variant", bundle, "--device", "cpu")
    assert "for cpu (numba) in float32" in done.stderr
    sidecar = json.loads((mac.folder / "a_upsampled.wav.json").read_text())
    assert sidecar["model"]["device"] == "cpu (numba)"
