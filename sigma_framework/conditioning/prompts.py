"""The two prompt templates (section 4.1)."""

from __future__ import annotations

from typing import Literal

import numpy as np

PromptKind = Literal["background", "full"]

BACKGROUND_TEMPLATE = "Place these subjects in "
"""Before a prompt that names the place alone (section 4.1)."""
FULL_TEMPLATE = "Place these subjects to compose: "
"""Before a prompt that names the whole picture (section 4.1)."""
FULL_PROBABILITY = 0.5
"""Half and half in training (section 4.1)."""


def render_prompt(prompt: str, kind: PromptKind) -> str:
    """What the text encoders read; the user's text is put in as it is."""
    return (FULL_TEMPLATE if kind == "full" else BACKGROUND_TEMPLATE) + prompt.strip()


def draw_prompt_kind(rng: np.random.Generator, full_probability: float = FULL_PROBABILITY) -> PromptKind:
    """Which prompt a training example uses."""
    return "full" if rng.random() < full_probability else "background"
