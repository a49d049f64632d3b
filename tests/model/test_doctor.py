"""`doctor`: what is said of a machine, what it ends with where nothing can be restored, and what is shared of it."""

from __future__ import annotations

import dataclasses
import getpass
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from program import Program

from batchsr import errors
from batchsr.cli import main
from batchsr.models import self_test
from batchsr.models.compute import backend


def test_doctor_names_device_driver_kernels_and_the_self_test_s_figure(program: Program) -> None:
    found = json.loads(program.run("doctor", "--json", "--device", "cpu").stdout)
    assert found["device"]
    assert "numba" in found["driver"]
    assert found["kernels"]["float32"] == "loops compiled by numba"
    assert found["kernels"]["float16"].startswith("plain operations (")
    assert found["self_test"].startswith("float32: passed, off by ")
    lines = program.run("doctor", "--device", "cpu").stdout
    assert "float32            loops compiled by numba" in lines


def test_a_failed_self_test_ends_doctor_with_69_and_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    honest = self_test.run

    def lying(given: backend.Backend, **named: Any) -> self_test.Outcome:
        return dataclasses.replace(honest(given, **named), passed=False, distance=0.5, stage="decode")

    monkeypatch.setattr(self_test, "run", lying)
    for options in ([], ["--share"]):
        monkeypatch.setattr(sys, "argv", ["batchsr", "--db", str(tmp_path / "q.db"), "doctor", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == errors.EXIT_NO_MODEL
        said = capfd.readouterr().out
        assert "FAILED, off by 5.0e-01" in said
        assert "decode" in said
    assert "```" in said


def test_what_is_shared_names_no_person_host_or_folder(program: Program) -> None:
    block = program.run("doctor", "--share", "--device", "cpu").stdout
    assert block.startswith("```\n")
    assert block.endswith("```\n")
    for part in ("batchsr ", "MLX ", "self-test in float32: passed", "ms a window", "GFLOP/s", "cores"):
        assert part in block
    for private in (str(program.folder), str(Path.home()), platform.node(), f" {getpass.getuser()} "):
        assert len(private) < 3 or private not in block


def test_an_mlx_that_is_too_old_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.32.2")
    with pytest.raises(errors.ModelUnavailable, match=r"0\.32\.2 is too old: before 0\.32\.3") as refused:
        backend.prepare(device="cpu")
    assert "mlx" in (refused.value.remedy or "")
    for version, expected in (("0.32.3", (0, 32, 3)), ("0.33.0.dev1", (0, 33, 0)), ("1", (1,)), ("x", ())):
        assert backend._numbers(version) == expected


@pytest.mark.parametrize(("machine", "said"), [("x86_64", "Apple silicon"), ("arm64", "pip install 'mlx")])
def test_a_mac_without_mlx_is_told_why(monkeypatch: pytest.MonkeyPatch, machine: str, said: str) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert said in backend._mlx_remedy()


def test_what_mlx_compiles_is_kept_in_the_user_s_cache(tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MLX_")}
    program = (
        "import os; from batchsr.models.compute import backend; backend.prepare()\n"
        "print(os.environ['MLX_PTX_CACHE_DIR']); print(os.environ['MLX_CONV_WINOGRAD_WORKING_SET'])"
    )
    for given in (None, "/elsewhere"):
        environment = clean | {"XDG_CACHE_HOME": str(tmp_path)} | ({"MLX_PTX_CACHE_DIR": given} if given else {})
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        folder, winograd = done.stdout.split()
        assert winograd == "1"
        assert folder == given or folder.startswith(str(tmp_path)) or sys.platform == "darwin"
