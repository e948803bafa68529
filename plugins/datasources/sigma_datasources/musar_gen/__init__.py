"""MUSAR-Gen: two subjects per example, without masks and depth."""
