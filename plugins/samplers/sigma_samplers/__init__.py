"""Sampling loops: ``generate`` and ``blended_insertion``."""
