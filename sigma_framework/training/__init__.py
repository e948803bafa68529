"""Training: what a step minimises, in which order examples come, and how a run survives being stopped."""
