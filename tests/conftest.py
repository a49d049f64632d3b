"""What every test may ask for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings and full-size golden files that stands beside a developer's checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        assert not os.environ.get("CI"), f"{folder} must be there in CI"
        pytest.skip("the shared recordings are not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def recordings(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 60 good recordings (`inputs/`) and the 30 broken ones (`bad/`), unpacked."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in ("inputs", "bad"):
        with tarfile.open(shared / "audio" / f"{name}.tar") as archive:
            archive.extractall(folder, filter="fully_trusted")
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with random weights and windows of 0.32 s that takes milliseconds a window."""
    from batchsr.model import make

    folder = tmp_path_factory.mktemp("bundle") / "random"
    make.write_random(folder, make.config_of_size("tiny"), "tests")
    return folder


class Program:
    """The program as a person runs it: a process of its own, a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = folder / "queue.db"
        self.environment = {**os.environ, "BATCHSR_DB": str(self.db), "NO_COLOR": "1"}
        self.environment.pop("BATCHSR_FAULT", None)

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "batchsr", *map(str, arguments)]

    def run(self, *arguments: str | Path, code: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run to the end; `code` is the exit code to insist on, None for any."""
        environment = {**self.environment, **options.pop("environment", {})}
        result = subprocess.run(
            self.command(*arguments),
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )
        assert "Traceback" not in result.stderr, result.stderr
        if code is not None:
            assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("list", "--json").stdout.splitlines()]

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return document


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)
