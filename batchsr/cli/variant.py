"""Which model a command line means."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

KINDS: Final = "int4, int8, tiny or a bundle's folder"
"""What `--variant` takes, for the help."""


class VariantType(click.ParamType[str]):
    """A variant's name, or the folder of a bundle; the shell completes both."""

    name = "variant"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it is: which names there are is the model's business (`variant_name`)."""
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin like this, then folders."""
        from batchsr.models import hub

        names = [CompletionItem(name) for name in hub.variants() if name.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="dir")]


def variant_name(variant: str | None) -> str | None:
    """A variant as the queue keeps it: a bundle's folder by its absolute path, so that any worker finds it.

    A name that is known is no folder's, as in `hub.resolve`. A folder need not be there yet. Raises ModelUnavailable
    for an unknown name: a hundred thousand rows should not wait for a typo.
    """
    from batchsr.models import hub

    if variant is None or variant in hub.variants():
        return variant
    if os.sep in variant or Path(variant).is_dir():
        return os.path.abspath(variant)
    hub.resolve(variant)
    return variant
