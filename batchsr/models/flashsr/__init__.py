"""FlashSR: its configuration, networks, bundle format, and the model that restores windows."""
