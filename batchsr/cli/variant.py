"""Which model a command line means."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from batchsr.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
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
    from batchsr.models import hub, registry

    if variant is None or variant in hub.variants() or variant in registry.WITHOUT_WEIGHTS:
        return variant
    if os.sep in variant or Path(variant).is_dir():
        return os.path.abspath(variant)
    hub.resolve(variant)
    return variant


def model_option(function: F) -> F:
    """Add the option that names a model; with `variant_of`, the command has the variant that it means."""
    choice = click.Choice(["flashsr", "resample"])
    return click.option("--model", type=choice, help="flashsr, or resample: the baseline without a model.")(function)


def variant_of(model: str | None, variant: str | None) -> str | None:
    """Return the variant that both options name together. Raises UsageError if they contradict each other."""
    from batchsr.models import registry

    if model is None or (model == registry.FLASHSR and variant not in registry.WITHOUT_WEIGHTS):
        return variant
    if variant not in (None, model):
        raise UsageError(f"--model {model} has no variant {variant}", remedy="leave one of the two out")
    return model
