"""The command line as tests of steering drive it: in this process, which costs milliseconds a command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rig
from click.testing import CliRunner

from batchsr.cli import cli
from batchsr.cli.app import App
from batchsr.errors import BatchsrError
from batchsr.queue import Job


@dataclasses.dataclass
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def called(*words: object, code: int | None = 0, environment: Mapping[str, str | None] | None = None) -> Said:
    """Run a command in this process, to its end; off a terminal. `code` is the exit code to insist on, None for any."""
    result = CliRunner().invoke(cli, list(map(str, words)), obj=App(), env=environment)
    error, status = "", result.exit_code
    if isinstance(result.exception, BatchsrError):
        error, status = f"{result.exception} [{result.exception.code}]", result.exception.exit_code
    elif result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    said = Said(status, result.stdout, result.stderr + error)
    assert code is None or said.code == code, said
    return said


class Person:
    """Somebody at a queue in a folder of recordings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.db = folder / "queue.db"

    def record(self, *names: str, seconds: float = 0.3) -> list[Path]:
        """Recordings of that name, each another one."""
        return [rig.record(self.folder / name, seconds, seed=number) for number, name in enumerate(names)]

    def run(self, *words: object, code: int = 0) -> Said:
        """A command, to its end; off a terminal."""
        return called("--db", self.db, *words, code=code)

    def work(self, **options: Any) -> None:
        rig.work(self.db, **options)

    def job(self, number: int) -> Job:
        return rig.job_of(self.db, number)
