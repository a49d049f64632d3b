"""Paths on the command line: `~` is the home folder also where no shell replaced it (unit files, quotes, programs)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import click

from batchsr.display import shown
from batchsr.errors import UsageError
from batchsr.remote.address import is_url
from batchsr.settings import textfile

_HALF_URL: Final = re.compile("(s3:|gs:|az:|https?:)/(?!/)", re.IGNORECASE)
"""What is meant as a URL, and would be a folder named `s3:`."""


class UserPath(click.Path):
    """A path, `~` expanded. Whether it can be read is for whoever reads it to say, beside the rest.

    A URL is no path, and refused, but where `takes_urls`: there it stays as it is.
    """

    def __init__(self, *, takes_urls: bool = False, **options: Any) -> None:
        super().__init__(**({"readable": False} | options))
        self._takes_urls = takes_urls

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str | Path):
            if not str(value):  # as "$FOLDER" is where nobody has set it
                self.fail("the path is empty: name one, or leave the option out", param, ctx)
            half = _HALF_URL.match(str(value)) if self._takes_urls else None
            if half is not None and not os.path.exists(half[1]):
                self.fail(f"{shown(str(value))} is neither a URL, which is {half[1]}//, nor below a folder", param, ctx)
            if is_url(str(value)):
                if self._takes_urls:
                    return value
                self.fail(
                    f"{str(value).partition('://')[0]}://... is a URL, and a path on this machine is wanted here",
                    param,
                    ctx,
                )
            value = textfile.expanded(str(value))
        return super().convert(value, param, ctx)


def _no_path(url: str) -> str:
    return f"{url.partition('://')[0]}://... is a URL, and a path on this machine is wanted here"


def check_folder(option: str, folder: str | None) -> None:
    """Raise UsageError for a folder that can never be made, since a file stands in its way. One may be away for now."""
    if is_url(folder or ""):
        return
    path = os.path.abspath(folder or os.sep)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UsageError(f"{option} {shown(folder or path)}: {shown(path)} is no folder", remedy="name another folder")


def check_page(path: Path) -> None:
    """Raise UsageError for a file that could not be written in the end: it is told before the work, not after it."""
    folder = path.absolute().parent
    if path.is_dir():
        raise UsageError(f"{shown(path)} is a folder", remedy="name a file in it")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {shown(folder)} to write {shown(path.name)} into", remedy="make it first")
    if not path.exists() and not os.access(folder, os.W_OK):
        raise UsageError(f"nothing can be written into {shown(folder)}", remedy="name a file elsewhere")


class UserFile(click.File):
    """A file that is opened, `~` expanded; "-" is standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and is_url(value):
            self.fail(_no_path(value), param, ctx)
        return super().convert(textfile.expanded(value) if isinstance(value, str) else value, param, ctx)
