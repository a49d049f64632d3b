"""A click group that imports a command's module when the command is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click


class LazyGroup(click.Group):
    """`commands_by_module` maps a module to the names of the commands it defines (as `<name>_command` or `<name>`)."""

    def __init__(self, *args: Any, commands_by_module: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._module_of = {name: module for module, names in commands_by_module.items() for name in names}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._module_of)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = self._module_of.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(module), f"{cmd_name}_command")
        if not isinstance(command, click.Command):
            raise AssertionError(f"{module}.{cmd_name}_command is no command")
        return command
