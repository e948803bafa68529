"""A procedural world: textured solids with shadows on a ground plane, seen by a pinhole camera."""
