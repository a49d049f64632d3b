"""What a model is, in words, and what exactly restored a file."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Goes into the queue and the sidecar."""

    variant: str
    """As asked for: int4, int8, tiny or a folder."""
    repository: str | None
    """Name of the hub's repository, or None for a folder."""
    revision: str
    """Commit of the hub, or sha256:... of the weights."""
    weights_sha256: str
    dtype: str
    device: str
    mlx_version: str
    warnings: tuple[str, ...] = ()
    """What of its bundle was taken calmly, a sentence for each kind; goes into the sidecar."""


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What is said of a model, whether it is loaded or not."""

    name: str
    """As `--model` takes it."""
    says: str
    """For the help of `--model`, in a few words; "" where the name says it."""
    label: str
    """What outputs write before the variant's name, where they name what made them; "" for the variant's name alone."""
    synthesises: bool
    """Whether it makes up sound that was never recorded, of which outputs and sidecars then speak."""
