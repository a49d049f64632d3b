"""`completion`: the shell's completion script."""

from __future__ import annotations

import click


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
