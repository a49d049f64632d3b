"""Workers: they claim jobs, restore them, and let go of them, whatever happens."""
