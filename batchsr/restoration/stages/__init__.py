"""Steps that a recording goes through before the model: a file each, and one registry."""
