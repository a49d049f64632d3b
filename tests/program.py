"""The program as tests drive it: as a person would, through processes and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import forked

from batchsr.queue.opening import open_queue
from batchsr.report.answers import as_line, status_of

FAST_MODEL = {
    "PYTHONPATH": os.pathsep.join(
        filter(None, [str(Path(__file__).parent / "fast_model"), os.environ.get("PYTHONPATH")])
    )
}
"""Environment in which `--variant fast` is a model that takes microseconds."""


def unmeasured(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment without coverage's variables.

    For programs that end by SIGKILL or may not write where its data goes: what they run is measured for nothing.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_")}


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
        options = {"text": True, "timeout": 300, "cwd": self.folder, **options}
        result = forked.run(self.command(*arguments), env=environment, **options)
        assert "Traceback" not in result.stderr, result.stderr
        if code is not None:
            assert result.returncode == code, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        return forked.Forked(
            self.command(*arguments),
            env={**self.environment, **environment},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def jobs(self) -> list[dict[str, Any]]:
        """Return what `list --json` says, read in this process: a look at the queue is no test of the command."""
        with open_queue(self.db) as queue:
            return [json.loads(as_line(job.to_dict())) for job in queue.jobs()]

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says, read in this process."""
        with open_queue(self.db) as queue:
            document: dict[str, Any] = json.loads(as_line(status_of(queue)))
            return document
