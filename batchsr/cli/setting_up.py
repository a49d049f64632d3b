"""Commands that set things up once: config, completion, service."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from batchsr import manifest, profile
from batchsr.cli.app import App, json_option, pass_app, restoration_options
from batchsr.cli.watching import program, watch_command
from batchsr.storage import printable
from batchsr.watch import services


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
        if app.json:
            app.emit({"profile": name, "path": str(path)})
        else:
            app.say(printable(f"{name:<12} {path}"))


@config_command.command("show")
@click.option("--profile", "profile_", metavar="NAME", help="A profile's name, or the path of one.")
@click.option("--job", type=click.Path(path_type=Path), help="A manifest; what it sets counts as well.")
@click.option("--variant", help="int4, int8, tiny or a bundle's folder.")
@restoration_options
@json_option
@pass_app
def show_command(app: App, profile_: str | None, job: Path | None, variant: str | None, given: dict[str, Any]) -> None:
    """The settings that hold, and the origin of each. The output is itself a profile."""
    if variant is not None:
        given["variant"] = variant
    effective = (manifest.load(job) if job is not None else profile).effective(profile=profile_, given=given)
    values = dataclasses.asdict(effective.settings) | {"variant": effective.variant}
    if app.json:
        app.emit(
            {
                "profile": effective.profile,
                "profile_sha256": effective.profile_sha256,
                "settings_sha256": effective.settings.digest(),
                "settings": {key: {"value": value, "origin": effective.origins[key]} for key, value in values.items()},
            }
        )
        return
    app.say(printable(f"# profile {effective.profile}, settings {effective.settings.digest()}"))
    for key, value in values.items():
        # JSON's texts, numbers and truth values are TOML's; what is open cannot be said in TOML but as a comment.
        line = f"{key} = {json.dumps(value)}" if value is not None else f"# {key} is open: the worker's own"
        app.say(printable(f"{line:<28} # {effective.origins[key]}"))


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    bash: `batchsr completion bash > ~/.local/share/bash-completion/completions/batchsr`. zsh: the same into a
    file `_batchsr` in a folder of $fpath. fish: into `~/.config/fish/completions/batchsr.fish`.
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is None:
        raise AssertionError(f"click does not know {shell}")
    click.echo(completer(context.find_root().command, {}, "batchsr", "_BATCHSR_COMPLETE").source())


@click.group("service")
def service_command() -> None:
    """Keep `watch --work` running: unit files for systemd and launchd."""


@service_command.command("print", context_settings={"ignore_unknown_options": True})
@click.argument("system", type=click.Choice(["systemd", "launchd"]))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="DIR... [OPTIONS OF watch]", required=True)
@click.option("--system", "machine", is_flag=True, help="systemd: a unit for the machine, run in your name.")
@click.option("--label", default="org.batchsr.watch", show_default=True, help="launchd's name for the service.")
@click.option(
    "--log", type=click.Path(path_type=Path), help="Where launchd writes what it says.  [default: beside the database]"
)
@pass_app
def print_command(
    app: App, system: str, arguments: tuple[str, ...], machine: bool, label: str, log: Path | None
) -> None:
    """Print a unit that runs `watch --work` with these folders and options; the comments in it say where to put it."""
    absolute = list(_absolute_words(arguments))
    with watch_command.make_context("batchsr watch", [*absolute]):
        pass  # a wrong option is told now, not by a service that does not start
    command = [*program(app), "watch", "--work", *(word for word in absolute if word != "--work")]
    if system == "systemd":
        click.echo(services.systemd(command, user=getpass.getuser() if machine else None), nl=False)
    else:
        click.echo(
            services.launchd(command, label=label, log=log or app.db.absolute().with_name("batchsr.log")), nl=False
        )


def _absolute_words(arguments: tuple[str, ...]) -> Iterator[str]:
    """The same words, with paths made absolute: a service has another working folder."""
    takes_path = {name for param in watch_command.params if isinstance(param.type, click.Path) for name in param.opts}
    takes_value = {
        name
        for param in watch_command.params
        if isinstance(param, click.Option) and not param.is_flag
        for name in param.opts
    }
    previous = ""
    for word in arguments:
        option, equals, value = word.partition("=")
        if previous in takes_value:
            yield os.path.abspath(word) if previous in takes_path else word
            previous = ""
            continue
        previous = word
        if word.startswith("-"):
            yield f"{option}={os.path.abspath(value)}" if equals and option in takes_path else word
        else:
            yield os.path.abspath(word)
