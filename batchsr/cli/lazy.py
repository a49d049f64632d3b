"""A click group that imports a command's module when the command is asked for, and lists commands by theme."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """`sections`: heading -> {command: module of batchsr.cli that defines it as `<command>_command`}."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._module_of = {name: module for commands in sections.values() for name, module in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._module_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._module_of.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(f"batchsr.cli.{module}"), f"{cmd_name}_command")
        if not isinstance(command, click.Command):
            raise AssertionError(f"{module}.{cmd_name}_command is no command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the first sentence of its docstring, wrapped instead of cut short."""
        for heading, commands in self._sections.items():
            rows = [(name, self._summary(ctx, name)) for name in commands]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def _summary(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        assert command is not None
        return command.get_short_help_str(limit=1_000)
