"""What scripts/train_tiny.py is made of; not part of the package."""
