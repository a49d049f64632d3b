"""What people and programs read: the live screen, and the tables of a batch."""
