"""The built-in control types: mask, depth, box2d, box3d, mesh."""
