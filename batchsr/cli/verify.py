"""`verify`: whether the outputs are as they were made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, fleet_options, json_option, pass_app
from batchsr.cli.paths import UserPath
from batchsr.cli.selection import Selection
from batchsr.display import printable
from batchsr.errors import EXIT_SOME_FAILED
from batchsr.worker import maintenance


@click.command("verify")
@click.argument("ids", nargs=-1, shell_complete=completing.numbers)
@click.option("--policy", "policy_at", metavar="FILE", type=UserPath(path_type=Path), help="Ask this of each as well.")
@fleet_options
@json_option
@pass_app
def verify_command(app: App, ids: tuple[str, ...], policy_at: Path | None) -> None:
    """Hash the outputs again and compare with the queue: ok, missing, changed or truncated.

    Where the record says that they were signed, their content credentials are checked as well. `--policy` also asks
    what a file demands of them: TOML with rate, bits, channels, loudness and more, or a policy of MediaConch (.xml).
    What breaks it is named, and ends the command with 3.
    """
    check = None
    if policy_at is not None:
        from batchsr.archive import policy

        check = policy.read(policy_at)
    app.acts()
    bad = broken = unsound = asked = 0
    named = Selection(ids)
    with app.queue() as queue:
        named.check_any(queue)
        for verdict in maintenance.verify(queue, named.ids()):
            asked += 1
            bad += verdict.verdict != "ok"
            job, breaks = verdict.job, None
            if check is not None and verdict.verdict == "ok":
                breaks = check(job, queue.report_of(job.id))
                broken += bool(breaks)
            signed = maintenance.credentials_of(queue, job) if verdict.verdict == "ok" else None
            unsound += signed in ("broken", "missing")
            document: dict[str, Any] = {
                "id": verdict.job.id,
                "output": verdict.job.output,
                "verdict": verdict.verdict,
                "detail": verdict.detail,
                "credentials": signed,
                "policy": None if breaks is None else "fail" if breaks else "pass",
                "breaks": breaks or [],
            }
            word, detail = ("policy", "; ".join(breaks)) if breaks else (verdict.verdict, verdict.detail)
            if signed in ("broken", "missing"):
                word, detail = "unsigned", f"its content credentials are {signed}"
            line = printable(f"{word:<10} #{job.id}  {job.output}  {detail}")
            app.answer(document, line if word != "ok" or app.verbosity > 0 else ())
        named.check(queue)
    if not asked:
        app.note("nothing was verified: no job here is done")
        return
    app.note(f"{bad} of the outputs are not as they were made" if bad else "all outputs are as they were made")
    if check is not None:
        app.note(f"{broken} of the others break the policy" if broken else "none of them breaks the policy")
    if unsound:
        app.note(f"{unsound} of the others have broken or no content credentials, and should have them")
    if bad or broken or unsound:
        sys.exit(EXIT_SOME_FAILED)
