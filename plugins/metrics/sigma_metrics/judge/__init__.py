"""The judge: a small model that says what it sees in an image; the measures of generated images rest on it.

It is trained on renders alone (``recipes/train_judge.yaml``) and is never part of anybody's training loss.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights" / "judge.safetensors"
"""The shipped weights, bfloat16."""
