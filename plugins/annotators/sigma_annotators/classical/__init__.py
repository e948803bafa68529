"""Annotators without a learned model: prompts by a grammar, segmentation by colour, boxes by geometry."""
