"""Taking files in from a browser: paths under allowed folders alone, and the dry run's answer before anything is done.

`batchsr enqueue` does it, as a process of its own: the same words and rules, and no audio library in the server.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from batchsr.display import printable
from batchsr.errors import ConfigError, ResourceError
from batchsr.serve.render import Renderer
from batchsr.serve.source import Source
from batchsr.settings import profile

MOST_PATHS: Final = 1_000
DRY_RUN_S: Final = 120.0
_HIGHEST: Final = 2**63 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Submission:
    """What is to be taken in, and how."""

    paths: tuple[str, ...]
    """Absolute, without links; each is there, and below an allowed folder."""
    profile: str
    priority: int
    batch: str

    def words(self) -> list[str]:
        """Return the options and arguments of `enqueue`."""
        options = ["--profile", self.profile, "--priority", str(self.priority), "--batch", self.batch]
        return ["--recursive", *options, "--", *self.paths]


def submission_of(fields: Mapping[str, Sequence[str]], roots: Sequence[Path]) -> Submission:
    """Return what a form asks for. Raises ConfigError for what is not allowed, without a word of what is there."""

    def one(name: str) -> str:
        return next(iter(fields.get(name, ())), "").strip()

    lines = [line.strip() for text in fields.get("paths", ()) for line in text.splitlines() if line.strip()]
    if not lines:
        raise ConfigError("no path is named", remedy="one on each line, of files or folders on the server")
    if len(lines) > MOST_PATHS:
        raise ConfigError(f"{len(lines):,} paths are too many", remedy="name their folder")
    paths = tuple(_allowed(line, roots) for line in lines)
    name = one("profile") or "default"
    if name not in profile.names():
        raise ConfigError(f"there is no profile {name!r}", remedy=f"there are {', '.join(profile.names())}")
    try:
        priority = int(one("priority") or "0")
    except ValueError:
        priority = _HIGHEST + 1
    batch = one("batch")
    if abs(priority) > _HIGHEST or len(batch) > 200 or printable(batch) != batch:
        raise ConfigError("that is no priority, or no batch's name", remedy="a whole number; a name of letters")
    return Submission(paths, name, priority, batch)


def _allowed(text: str, roots: Sequence[Path]) -> str:
    """Return the real path of what somebody typed. Outside of the roots it is not said whether anything is there."""
    refused = ConfigError(
        f"{printable(text)!r} is not below {' or '.join(printable(root) for root in roots)}, or not there",
        remedy="name a file or a folder below it by its whole path",
    )
    if not text.startswith("/") or "\0" in text:
        raise refused
    try:
        path = Path(os.path.realpath(text, strict=True))
    except (OSError, ValueError):
        raise refused from None
    if not any(path.is_relative_to(root) for root in roots):
        raise refused
    return str(path)


class Submit:
    """Asks what is to be taken in, shows what would become of it, and has it taken in."""

    def __init__(self, source: Source, renderer: Renderer, roots: Sequence[Path]) -> None:
        self._source = source
        self._render = renderer
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self._busy = threading.Lock()

    def page(self, request: Request) -> Response:
        """Ask for paths, profile, priority and batch."""
        return self._render.page(request, "submit.html", roots=self._roots, profiles=profile.names(), submission=None)

    async def answer(self, request: Request) -> Response:
        """Show the dry run's answer; where that was confirmed, take the files in."""
        try:
            fields = parse_qs((await request.body()).decode("utf-8"), keep_blank_values=True, max_num_fields=50)
        except ValueError as e:
            raise ConfigError("that is no form of ours", remedy="go back and load the page again") from e
        self._render.forms.check(request, next(iter(fields.get("form", ())), ""))
        return await run_in_threadpool(self._answer, request, fields)

    def _answer(self, request: Request, fields: Mapping[str, Sequence[str]]) -> Response:
        submission = submission_of(fields, self._roots)
        is_confirmed = bool(next(iter(fields.get("confirmed", ())), ""))
        if not self._busy.acquire(blocking=False):
            raise ResourceError("others are taking files in just now", remedy="ask again in a minute")
        try:
            summary, told = self._enqueue(submission, dry_run=not is_confirmed)
        finally:
            self._busy.release()
        if not is_confirmed:
            return self._render.page(
                request,
                "submit.html",
                roots=self._roots,
                profiles=[],
                submission=submission,
                summary=summary,
                lines=told,
            )
        self._source.forget()
        number = sum(count for outcome, count in summary["outcomes"].items() if outcome in _TAKEN)
        return RedirectResponse(f"{self._render.prefix}/?did=submit&number={number}", 303)

    def _enqueue(self, submission: Submission, *, dry_run: bool) -> tuple[dict[str, Any], list[str]]:
        """Run `enqueue`, and return its summary and what it said to people. Raises ConfigError where it failed."""
        command = [sys.executable, "-m", "batchsr", *self._source.address.words(), "enqueue", "--json"]
        command += ["--dry-run"] if dry_run else []
        try:
            ended = subprocess.run(
                [*command, *submission.words()],
                env=os.environ | self._source.address.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DRY_RUN_S if dry_run else None,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise ConfigError(
                "looking at so many files takes too long here", remedy="name smaller folders, or `batchsr enqueue`"
            ) from e
        told = ended.stderr.decode("utf-8", "replace").splitlines()
        last = ended.stdout.strip().rpartition(b"\n")[2]
        try:
            summary: dict[str, Any] = json.loads(last)["summary"]
        except (ValueError, KeyError):
            raise ConfigError(told[-1] if told else "enqueue said nothing") from None
        return summary, told


_TAKEN: Final = ("queued", "updated", "done again", "superseding")
