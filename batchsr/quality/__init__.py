"""How good a restoration is, against the full-band original."""
