"""What a run will cost, by closed formulas and file headers; no torch, no weights read (``sigma-run --explain``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_backbones import POCKET, pocket_folder
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.memory_estimate import memory_estimate
from sigma_backbones.flux_kontext.parameter_counts import (
    FULL_SCALE_TRANSFORMER,
    adapter_parameters,
    transformer_parameters,
)
from sigma_backbones.safetensors_header import read_header
from sigma_backbones.token_grid import token_counts

FULL_SCALE_VAE = 83_819_683
"""Parameters of FLUX.1's AutoencoderKL."""
FULL_SCALE_TEXT_ENCODERS = 123_060_480 + 4_762_310_656
"""Parameters of CLIP-L's text model and of T5-XXL's encoder."""
FULL_SCALE_TEXT_LENGTH = 512
"""Tokens that FLUX.1 pads prompts to."""
LICENCES = {
    POCKET: "Apache-2.0",
    FULL_SCALE: "FLUX.1 [dev] Non-Commercial License; gated: accept it at https://huggingface.co/" + FULL_SCALE,
}
"""By weights; other weights bring their own."""


def explain(config: FluxKontextConfig, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts, parameters and a memory estimate of one training step or one generation.

    Args:
        config: the backbone's options.
        facts: ``size_hw`` pixels, ``identity_size`` (side in pixels or height and width), ``subjects``, ``rank``,
            ``batch_size``, ``task`` (``train`` or ``generate``), and optionally ``text_length`` and ``targets`` (the
            layers that the adapter changes; None is this base's list).

    Returns:
        ``tokens``: per role and total; ``parameters``: transformer, vae, text_encoders (None when the files are not
        here), adapter; ``memory_bytes``: see ``memory_estimate``; ``licence``.
    """
    folder = _folder(config.weights)
    shape = _transformer_config(folder)
    tokens = token_counts(facts, _text_length(folder))
    parameters: dict[str, int | None] = {
        "transformer": transformer_parameters(shape),
        "vae": _stored_parameters(folder, "vae") if folder else FULL_SCALE_VAE,
        "text_encoders": _text_parameters(folder) if folder else FULL_SCALE_TEXT_ENCODERS,
        "adapter": adapter_parameters(shape, int(facts.get("rank") or 0), facts.get("targets")),
    }
    licence = LICENCES.get(
        config.weights, "that of these weights; FLUX.1 [dev] and what is made from it: non-commercial"
    )
    return {
        "tokens": tokens,
        "parameters": parameters,
        "memory_bytes": memory_estimate(config, facts, shape, tokens, parameters),
        "licence": licence,
    }


def _folder(weights: str) -> Path | None:
    """The local folder of the weights; None for what is on the hub."""
    folder = pocket_folder() if weights == POCKET else Path(weights).expanduser()
    return folder if folder.is_dir() else None


def _transformer_config(folder: Path | None) -> dict[str, Any]:
    """Of the folder; FLUX.1 Kontext [dev]'s where nothing is here to read."""
    if folder is None or not (folder / "transformer" / "config.json").is_file():
        return dict(FULL_SCALE_TRANSFORMER)
    read = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
    return {**FULL_SCALE_TRANSFORMER, **read}


def _text_length(folder: Path | None) -> int:
    path = folder / "tokenizer_2" / "tokenizer_config.json" if folder else None
    if path is None or not path.is_file():
        return FULL_SCALE_TEXT_LENGTH
    length = json.loads(path.read_text(encoding="utf-8")).get("model_max_length", FULL_SCALE_TEXT_LENGTH)
    return min(int(length), FULL_SCALE_TEXT_LENGTH)


def _text_parameters(folder: Path) -> int | None:
    counts = [_stored_parameters(folder, name) for name in ("text_encoder", "text_encoder_2")]
    return None if None in counts else sum(count or 0 for count in counts)


def _stored_parameters(folder: Path, part: str) -> int | None:
    """Numbers in the part's safetensors files, from their headers; None without such files.

    Of ``model.safetensors`` and ``model.fp16.safetensors`` beside one another only the first kind counts.
    """
    files = [
        file
        for file in sorted((folder / part).glob("*.safetensors"))
        if not re.search(r"\.\w+\.safetensors", file.name)
    ]
    return sum(read_header(file).count() for file in files) if files else None
