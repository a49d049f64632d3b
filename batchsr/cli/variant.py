"""Which model a command line means."""

from __future__ import annotations

import os
from pathlib import Path


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
