"""The command line: one group, one error boundary.

stdout is data, stderr is progress and logs. Every command takes `--json`. Each command has a module of its own name in
this package; worker and model are imported only inside the commands that run them, so that `status` answers at once.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from pathlib import Path

import click

from batchsr import __version__
from batchsr.cli.app import App, LogHandler, json_option, tell
from batchsr.cli.lazy import LazyGroup
from batchsr.cli.paths import UserPath
from batchsr.cli.streams import ReaderLeft, Streams
from batchsr.display import printable, without_passwords
from batchsr.errors import EXIT_SIGINT, BatchsrError
from batchsr.queue import roots
from batchsr.settings import textfile

_SECTIONS = {
    "Every day": ("run", "enqueue", "work", "watch", "status", "report", "upsample"),
    "Look closer": ("list", "show", "listen", "explain", "verify", "words", "serve"),
    "Steer": ("retry", "cancel", "edit", "undo", "forget", "relocate", "pause", "resume"),
    "Archive": ("export", "import-sidecars"),
    "Models": ("models", "doctor", "evaluate"),
    "Set up and keep": ("config", "service", "completion", "db", "fleet", "gc"),
}
"""Headings of the help -> commands under them."""


@click.group(cls=LazyGroup, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--db", type=UserPath(path_type=Path), envvar="BATCHSR_DB", help="The queue's database.")
@click.option("--fleet", metavar="URL", envvar="BATCHSR_FLEET", help="The PostgreSQL database of a fleet.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
@click.option("-v", "--verbose", count=True, help="More on stderr.")
@click.option("--no-color", is_flag=True, envvar="NO_COLOR", help="No colour, no animation.")
@click.version_option(__version__, prog_name="batchsr")
@click.pass_context
def cli(
    context: click.Context, /, db: Path | None, fleet: str | None, quiet: bool, verbose: int, no_color: bool
) -> None:
    """Restore archives of narrowband recordings to 48 kHz with FlashSR on MLX.

    `batchsr enqueue /archive/*.wav`, then `batchsr work --variant int4`. After any stop, `batchsr work`
    goes on where it was.
    """
    app = context.ensure_object(App)
    app.db_path = db
    app.db_is_typed = context.get_parameter_source("db") is click.core.ParameterSource.COMMANDLINE
    app.verbosity = -1 if quiet else verbose
    typed = context.get_parameter_source("fleet") is click.core.ParameterSource.COMMANDLINE
    if fleet is not None and (fleet or typed):  # `--fleet "$URL"` with no such variable is no queue in a file
        app.name_fleet(fleet, typed=typed)
    if named := os.environ.get("BATCHSR_ROOTS"):
        roots.use(roots.listed(named))
    app.color = not no_color
    logging.getLogger("batchsr").handlers = [LogHandler(app)]


def main() -> None:
    """Entry point of the program: runs a command and turns what it raises into a message and an exit code.

    What cannot be written is told apart: lines of the log never end the work; answers that are lost end with 74.
    """
    streams = Streams()
    textfile.settle_home()
    code = _run(App(streams=streams))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left takes two seconds at most
    try:
        streams.finish()
    except BatchsrError as e:
        _complain(e)
        code = e.exit_code
    sys.exit(code)


def _run(app: App) -> int:
    """Run a command. Returns the exit code."""
    try:
        cli.main(prog_name="batchsr", standalone_mode=False, obj=app)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except click.ClickException as e:
        told = io.StringIO()
        e.show(told)
        lines = without_passwords(told.getvalue()).rstrip("\n").split("\n")  # a URL that was typed in a wrong place
        click.echo("\n".join(map(printable, lines)), err=True)
        return e.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("batchsr: interrupted", err=True)
        return EXIT_SIGINT
    except BatchsrError as e:
        _complain(e)
        return e.exit_code
    except ReaderLeft:
        pass  # `batchsr list | head`: the reader has seen enough
    return 0


def _complain(error: BatchsrError) -> None:
    tell(f"batchsr: {printable(error)} [{error.code}]")
