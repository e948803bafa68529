"""Data sources: ``toybox``, a procedural world with exact annotations."""
