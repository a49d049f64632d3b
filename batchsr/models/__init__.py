"""What restores: models, the devices they compute on, and the hub their weights come from.

Nothing is imported here: `batchsr.models.hub` and `batchsr.models.flashsr.config` work without MLX, and everything
else wants `batchsr.models.compute.backend.prepare()` first.
"""
