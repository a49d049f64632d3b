#!/usr/bin/env python3
"""Write the man pages, one for each command, into a folder: `man -l build/man/batchsr-work.1` shows one.

Needs click-man (group `man` of pyproject.toml). `scripts/docs` runs it.
"""

from __future__ import annotations

import argparse
import datetime
import re
from pathlib import Path

import click
from click_man.core import generate_man_page

from batchsr import __version__
from batchsr.cli import cli


def write(command: click.Command, context: click.Context, folder: Path) -> int:
    """Write the page of a command and of those below it. Returns how many were written."""
    written = 1
    if isinstance(command, click.Group):
        # click-man looks for commands that are loaded already; ours are loaded when they are asked for.
        there = {name: command.get_command(context, name) for name in command.list_commands(context)}
        command.commands = {name: one for name, one in there.items() if one is not None and not one.hidden}
        for name, below in command.commands.items():
            written += write(below, click.Context(below, info_name=name, parent=context), folder)
    command.short_help = command.get_short_help_str(limit=1_000)  # whole, not cut after 45 characters
    text = generate_man_page(context, version=__version__, date=f"{datetime.date.today()}")
    name = context.command_path.replace(" ", "-")
    # Backquotes open a quotation in roff's fonts; names of commands are bold there.
    (folder / f"{name}.1").write_text(re.sub(r"`([^`\n]+)`", r"\\fB\1\\fP", text))
    return written


def main() -> None:
    """Write the pages into the folder that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/man"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{write(cli, click.Context(cli, info_name='batchsr'), folder)} pages in {folder}")


if __name__ == "__main__":
    main()
