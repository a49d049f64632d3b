"""Paths on the command line: `~` is the home folder also where no shell replaced it (unit files, quotes, programs)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchsr.settings import textfile


class UserPath(click.Path):
    """A path, `~` expanded. Whether it can be read is for whoever reads it to say, beside the rest."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"readable": False} | options))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str | Path):
            value = textfile.expanded(str(value))
        return super().convert(value, param, ctx)


class UserFile(click.File):
    """A file that is opened, `~` expanded; "-" is standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(textfile.expanded(value) if isinstance(value, str) else value, param, ctx)
