"""FlashSR on MLX: the networks, the bundles they are read from, and the public `FlashSR`.

Nothing is imported here: `batchsr.model.hub` and `batchsr.model.config` work without MLX, and MLX itself may
only be imported after `batchsr.model.backend.prepare()` has chosen a BLAS for it.
"""
