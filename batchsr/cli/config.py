"""`config`: profiles, and where each setting comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from batchsr.cli import completing
from batchsr.cli.app import App, json_option, pass_app
from batchsr.cli.options import restoration_options
from batchsr.cli.paths import UserPath
from batchsr.cli.variant import KINDS, VariantType
from batchsr.display import printable
from batchsr.intake import manifest
from batchsr.settings import profile


@click.group("config")
def config_command() -> None:
    """Profiles: how recordings are restored, and where each setting comes from."""


@config_command.command("list")
@json_option
@pass_app
def list_command(app: App) -> None:
    """The profiles that --profile takes by name, and their files."""
    for name in profile.names():
        path = profile.find(name)
        app.answer({"profile": name, "path": str(path)}, printable(f"{name:<12} {path}"))


@config_command.command("show")
@click.option(
    "--profile",
    "profile_",
    shell_complete=completing.profiles,
    metavar="NAME",
    help="A profile's name, or the path of one.",
)
@click.option("--job", type=UserPath(path_type=Path), help="A manifest; what it sets counts as well.")
@click.option("--variant", type=VariantType(), help=f"{KINDS}.")
@restoration_options
@json_option
@pass_app
def show_command(app: App, profile_: str | None, job: Path | None, variant: str | None, given: dict[str, Any]) -> None:
    """The settings that hold, and the origin of each. The output is itself a profile."""
    if variant is not None:
        given["variant"] = variant
    effective = (manifest.load(job) if job is not None else profile).effective(profile=profile_, given=given)
    values = dataclasses.asdict(effective.settings) | {"variant": effective.variant}
    document = {
        "profile": effective.profile,
        "profile_sha256": effective.profile_sha256,
        "settings_sha256": effective.settings.digest(),
        "settings": {key: {"value": value, "origin": effective.origins[key]} for key, value in values.items()},
    }
    app.answer(document, _profile_lines(effective, values))


def _profile_lines(effective: profile.Effective, values: Mapping[str, Any]) -> Iterator[str]:
    yield printable(f"# profile {effective.profile}, settings {effective.settings.digest()}")
    for key, value in values.items():
        # JSON's texts, numbers and truth values are TOML's; what is open cannot be said in TOML but as a comment.
        line = f"{key} = {json.dumps(value)}" if value is not None else f"# {key} is open: the worker's own"
        yield printable(f"{line:<28} # {effective.origins[key]}")
