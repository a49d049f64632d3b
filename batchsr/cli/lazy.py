"""A click group that imports a command's module when the command is asked for, and lists commands under headings."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

_ALONE = ("--check-words",)


class LazyGroup(click.Group):
    """`sections`: heading -> commands; batchsr.cli.<command> defines each as `<command>_command`, with _ for -."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._names = [name for names in sections.values() for name in names]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As in every group; an option whose value may be left out takes one behind `=` alone, never the next word."""
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(
            ctx, [f"{word}=" if word in _ALONE and at < end else word for at, word in enumerate(args)]
        )

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._names:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"batchsr.cli.{name}"), f"{name}_command")
        if not isinstance(command, click.Command):
            raise AssertionError(f"batchsr.cli.{name}.{name}_command is no command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in every group, with the nearest name for one that is misspelled."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as e:
            near = difflib.get_close_matches(args[0], self._names, 1, 0.6) if args else []
            if not near or near[0] in e.message:
                raise
            raise click.UsageError(f"{e.message.rstrip('.')}. Did you mean '{near[0]}'?", ctx) from e

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each command with the first sentence of its docstring, wrapped instead of cut short."""
        for heading, names in self._sections.items():
            rows = [(name, self._summary(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(rows)

    def _summary(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        assert command is not None
        return command.get_short_help_str(limit=1_000)
