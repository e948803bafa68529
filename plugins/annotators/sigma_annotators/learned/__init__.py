"""Annotators that run published models: language models, text to image, detection, segmentation, depth, reposing."""
