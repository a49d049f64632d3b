"""Bundles made, converted, compared and checked: what the scripts and `batchsr models` do with weights."""
