"""The hot folder: what arrives is enqueued once it is whole, and moved when it is done."""
