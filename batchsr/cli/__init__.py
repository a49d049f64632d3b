"""The command line: one group, one error boundary.

stdout is data, stderr is progress and logs. Every command takes `--json`. Each command has a module of its own name in
this package; worker and model are imported only inside the commands that run them, so that `status` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from batchsr import __version__
from batchsr.cli.app import App, json_option
from batchsr.cli.lazy import LazyGroup
from batchsr.errors import EXIT_SIGINT, BatchsrError
from batchsr.storage import printable

_SECTIONS = {
    "Every day": ("enqueue", "work", "watch", "status", "report", "upsample"),
    "Look closer": ("list", "show", "verify"),
    "Steer": ("retry", "cancel", "pause", "resume"),
    "Models": ("models", "doctor", "evaluate"),
    "Set up and keep": ("config", "service", "completion", "db", "gc"),
}
"""Headings of the help -> commands under them."""


@click.group(cls=LazyGroup, sections=_SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--db", type=click.Path(path_type=Path), envvar="BATCHSR_DB", help="The queue's database.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only errors on stderr.")
@click.option("-v", "--verbose", count=True, help="More on stderr.")
@click.option("--no-color", is_flag=True, envvar="NO_COLOR", help="No colour, no animation.")
@click.version_option(__version__, prog_name="batchsr")
@click.pass_context
def cli(context: click.Context, /, db: Path | None, quiet: bool, verbose: int, no_color: bool) -> None:
    """Restore archives of narrowband recordings to 48 kHz with FlashSR on MLX.

    `batchsr enqueue /archive/*.wav`, then `batchsr work --variant int4`. After any stop, `batchsr work`
    goes on where it was.
    """
    app = context.ensure_object(App)
    app.db_path = db
    app.verbosity = -1 if quiet else verbose
    app.color = not no_color


def main() -> None:
    """Entry point of the program: runs a command and turns what it raises into a message and an exit code."""
    try:
        cli.main(prog_name="batchsr", standalone_mode=False)
    except click.ClickException as e:
        e.show()
        sys.exit(e.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("batchsr: interrupted", err=True)
        sys.exit(EXIT_SIGINT)
    except BatchsrError as e:
        click.echo(f"batchsr: {printable(str(e))} [{e.code}]", err=True)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        # `batchsr list | head`: the reader has seen enough. Keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
