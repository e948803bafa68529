"""SIGMA-SET: tar shards with random access, in which damage is always noticed."""
