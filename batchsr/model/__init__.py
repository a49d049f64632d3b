"""FlashSR on MLX: the networks, the bundles they are read from, and the public `FlashSR`.

Nothing is imported here: `batchsr.model.hub` and `batchsr.model.config` work without MLX, and everything else wants
`batchsr.model.backend.prepare()` first.
"""
