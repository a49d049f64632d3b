"""Jobs named on the command line by their numbers."""

from __future__ import annotations

from batchsr.cli.app import App
from batchsr.errors import ConfigError


def job_ids(values: tuple[str, ...]) -> list[int]:
    """Job numbers of the command line. Raises ConfigError."""
    try:
        return [int(value) for value in values]
    except ValueError as e:
        raise ConfigError(f"{e}", remedy="jobs are named by the number that `batchsr list` shows") from e


def tell_ids(app: App, what: str, ids: list[int]) -> None:
    """Say what was done to how many jobs, and to which."""
    app.answer({what: ids}, f"{what} {len(ids)}" + (": " + " ".join(f"#{one}" for one in ids) if ids else ""))
