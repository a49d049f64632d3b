"""`--sign` and `--cert`: content credentials in what is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchsr.cli.paths import UserPath
from batchsr.errors import UsageError

if TYPE_CHECKING:
    from batchsr.restoration.credentials import Signing

F = TypeVar("F", bound=Callable[..., Any])


def signing_options(function: F) -> F:
    """Add the options that say who signs; the command gets `signing`, None where nobody does. Raises ConfigError."""
    options = (
        click.option("--sign", "key", metavar="KEY", type=UserPath(path_type=Path), help="Sign (C2PA) with this key."),
        click.option("--cert", metavar="CHAIN", type=UserPath(path_type=Path), help="The key's certificates, PEM."),
        click.option("--time-authority", metavar="URL", help="Ask this authority (RFC 3161) for the time of signing."),
    )

    @functools.wraps(function)
    def wrapped(*args: Any, key: Path | None, cert: Path | None, time_authority: str | None, **kwargs: Any) -> Any:
        return function(*args, signing=_signing(key, cert, time_authority), **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _signing(key: Path | None, cert: Path | None, time_authority: str | None) -> Signing | None:
    if key is None and cert is None and time_authority is None:
        return None
    if key is None or cert is None:
        raise UsageError("a key and its certificates go together", remedy="pass both --sign KEY and --cert CHAIN")
    from batchsr.restoration.credentials import Signing

    return Signing.load(key, cert, time_authority)
