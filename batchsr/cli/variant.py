"""Which model a command line means."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from batchsr.errors import UsageError
from batchsr.models import registry

F = TypeVar("F", bound=Callable[..., Any])
KINDS: Final = f"{', '.join(registry.variants())}, or a bundle's folder"
"""What `--variant` takes, for the help."""


class VariantType(click.ParamType[str]):
    """A variant's name, or the folder of a bundle; the shell completes both."""

    name = "variant"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it is: which names there are is the model's business (`variant_name`)."""
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that have weights and begin like this, then folders."""
        rows = (row for entry in registry.MODELS.values() for row in entry.family().installed())
        names = [CompletionItem(row["variant"]) for row in rows if row["variant"].startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="dir")]


def variant_name(variant: str | None) -> str | None:
    """Return a variant as the queue keeps it: a bundle's folder by its absolute path, so that any worker finds it.

    A name that is known is no folder's, as in `registry.model_of`. A folder need not be there yet. Raises
    ModelUnavailable for an unknown name: a hundred thousand jobs should not wait for a typo.
    """
    if variant is None or variant in registry.variants():
        return variant
    if os.sep in variant or Path(variant).is_dir():
        return os.path.abspath(variant)
    from batchsr.models import hub

    raise hub.unknown(variant, registry.variants())


def model_option(function: F) -> F:
    """Add the option that names a model; `variant_of` and `chosen_variant` say which variant is meant."""
    said = (f"{name}: {entry.about.says}" if entry.about.says else name for name, entry in registry.MODELS.items())
    choice = click.Choice(list(registry.MODELS))
    return click.option("--model", type=choice, help=f"{', or '.join(said)}.")(function)


def variant_of(model: str | None, variant: str | None) -> str | None:
    """Return the variant that both options name together; None for any of the model that is the usual one.

    Raises UsageError if they contradict each other, or if the model has no variant that goes without saying.
    """
    if model is None:
        return variant
    if variant is not None:
        if registry.model_of(variant) != model:
            raise UsageError(f"--model {model} has no variant {variant}", remedy="leave one of the two out")
        return variant
    return None if model == registry.FLASHSR else _first(model)


def chosen_variant(model: str | None, variant: str | None, usual: str | None = None) -> str | None:
    """Return the variant that is to restore; None where nothing says which.

    usual: the profile's, or None. It counts where no variant is named, unless it is of another model than --model.
    Raises UsageError as `variant_of` does.
    """
    if (named := variant_of(model, variant)) is not None:
        return named
    if model is None or (usual is not None and registry.model_of(usual) == model):
        return usual
    return _first(model)


def of_model(model: str | None) -> Callable[[str], bool]:
    """Return whether a variant is of a model, as a function; of no named one every variant is."""
    return lambda variant: model is None or registry.model_of(variant) == model


def _first(model: str) -> str:
    """Return the variant that a model's name alone means."""
    variants = registry.MODELS[model].family().variants()
    if not variants:
        raise UsageError(f"--model {model} has no variant of a name", remedy="add --variant with a bundle's folder")
    return variants[0]
