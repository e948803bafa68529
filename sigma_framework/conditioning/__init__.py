"""From layers to the two condition images: routing and structure, identity pictures, prompts (NumPy only)."""

from sigma_framework.conditioning.control_image import ComposedControl, compose
from sigma_framework.conditioning.identity_image import square_on_white, stack
from sigma_framework.conditioning.layout_picture import draw_layout
from sigma_framework.conditioning.prompts import draw_prompt_kind, render_prompt
from sigma_framework.conditioning.scene_layers import compose_scene, encode_subjects, identity_blocks

__all__ = [
    "ComposedControl",
    "compose",
    "compose_scene",
    "draw_layout",
    "draw_prompt_kind",
    "encode_subjects",
    "identity_blocks",
    "render_prompt",
    "square_on_white",
    "stack",
]
