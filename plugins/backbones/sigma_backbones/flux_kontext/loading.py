"""The parts of a checkpoint in diffusers' folder format: the shipped one, a folder, or a hub id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sigma_backbones import POCKET, pocket_folder
from sigma_backbones.checkpoint_parts import CheckpointParts
from sigma_backbones.checkpoint_source import FAULTS, INDEX, find_checkpoint, quiet_libraries
from sigma_backbones.flux_kontext.config import FULL_SCALE, GGUF
from sigma_backbones.flux_kontext.original_names import are_original, to_diffusers
from sigma_backbones.flux_kontext.quantization import check_gguf
from sigma_backbones.safetensors_header import read_header
from sigma_framework import Problem, WeightsError

FOLDERS = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")
"""What a FLUX.1 Kontext folder of diffusers consists of, besides ``model_index.json``."""
PIPELINES = ("FluxKontextPipeline", "FluxKontextInpaintPipeline", "FluxPipeline", "FluxImg2ImgPipeline")
"""Classes that a folder's index may name: they have the same parts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FluxKontextParts:
    """The models and tokenizers, as diffusers and transformers make them."""

    scheduler: Any
    """``FlowMatchEulerDiscreteScheduler``."""
    vae: Any
    """``AutoencoderKL`` or ``AutoencoderTiny``."""
    text_encoder: Any
    """``CLIPTextModel``: the pooled text."""
    tokenizer: Any
    """For ``text_encoder``."""
    text_encoder_2: Any
    """``T5EncoderModel``: the token sequence."""
    tokenizer_2: Any
    """For ``text_encoder_2``; its ``model_max_length`` is the text length."""
    transformer: Any
    """``FluxTransformer2DModel``."""

    def models(self) -> tuple[torch.nn.Module, ...]:
        """Everything with weights."""
        return self.transformer, self.vae, self.text_encoder, self.text_encoder_2


def load_parts(
    weights: str,
    revision: str | None,
    dtype: torch.dtype,
    transformer: str | None = None,
    quantized: Mapping[str, Any] | None = None,
) -> FluxKontextParts:
    """Loads all parts, frozen and in evaluation mode.

    Args:
        weights: what the recipe says.
        revision: of a hub id.
        dtype: numbers of the weights.
        transformer: a single file in the place of that part.
        quantized: see ``quantization_options``.

    Raises:
        WeightsError: not found, not complete, damaged, of another architecture, gated or offline; says what to do.
    """
    source, where, _ = _find(weights, revision)
    checkpoint = CheckpointParts(weights=weights, source=source, where=where, revision=revision)
    with quiet_libraries():
        parts = _read_parts(checkpoint, dtype, _single_file(transformer), quantized or {})
    _check_parts(weights, parts)
    for model in parts.models():
        model.requires_grad_(False).eval()
    return parts


def _read_parts(
    checkpoint: CheckpointParts, dtype: torch.dtype, single: Path | None, quantized: Mapping[str, Any]
) -> FluxKontextParts:
    import diffusers.pipelines.flux.pipeline_flux_kontext  # noqa: F401  its notes on torchvision belong in here too
    from diffusers import AutoencoderKL, AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
    from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel

    vae_name = checkpoint.config(AutoencoderKL, "vae").get("_class_name")
    vae_class = AutoencoderTiny if vae_name == "AutoencoderTiny" else AutoencoderKL
    image: dict[str, Any] = {"torch_dtype": dtype}
    return FluxKontextParts(
        scheduler=checkpoint.load(FlowMatchEulerDiscreteScheduler, "scheduler"),
        vae=checkpoint.model(vae_class, "vae", **image),
        text_encoder=checkpoint.text_encoder(CLIPTextModel, "text_encoder", dtype),
        tokenizer=checkpoint.tokenizer(CLIPTokenizer, "tokenizer"),
        text_encoder_2=checkpoint.text_encoder(T5EncoderModel, "text_encoder_2", dtype),
        tokenizer_2=checkpoint.tokenizer(AutoTokenizer, "tokenizer_2"),
        transformer=checkpoint.model(FluxTransformer2DModel, "transformer", whole=True, **image, **quantized)
        if single is None
        else _read_single(single, checkpoint.source, {**image, **checkpoint.hub_options, **quantized}),
    )


def _single_file(name: str | None) -> Path | None:
    """The file, after the cheap checks."""
    if name is None:
        return None
    file = Path(name).expanduser()
    if not file.is_file():
        raise WeightsError(f"backbone.transformer: {name} is not a file here; expected a checkpoint in one file")
    try:
        check_gguf(file) if file.suffix == GGUF else read_header(file)
    except (ValueError, OSError) as error:
        raise WeightsError(f"backbone.transformer: {name}: {error}; copy or download it again") from error
    return file


def _read_single(file: Path, source: str, weights: dict[str, Any]) -> Any:
    """One file with the transformer's weights, of the shapes that the checkpoint's own ``config.json`` says."""
    from diffusers import FluxTransformer2DModel

    try:
        shape = FluxTransformer2DModel.load_config(source, subfolder="transformer", revision=weights.get("revision"))
        stored = _original_weights(file, shape) or str(file)
        places = {"config": source, "subfolder": "transformer", "config_revision": weights.get("revision")}
        read = FluxTransformer2DModel.from_single_file(stored, **places, **weights)
    except (*FAULTS, IndexError, AttributeError) as error:  # what diffusers' readers stumble over
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"backbone.transformer: {file} does not fit the transformer of {source} ({reason}); expected FLUX.1 "
            "Kontext's weights in one file, in the original names or diffusers'"
        ) from error
    empty = [name for name, parameter in read.named_parameters() if parameter.is_meta]
    if empty:
        raise WeightsError(f"backbone.transformer: {file} lacks {len(empty)} tensors, first {empty[0]}; copy it again")
    return read


def _original_weights(file: Path, shape: Mapping[str, Any]) -> dict[str, torch.Tensor] | None:
    """Weights of a file in FLUX.1's own names under diffusers'; None for a file that has these already."""
    from diffusers.models.model_loading_utils import load_gguf_checkpoint
    from safetensors.torch import load_file

    if file.suffix == GGUF:
        stored = load_gguf_checkpoint(str(file))
    elif are_original(list(read_header(file).tensors)):
        stored = load_file(file)
    else:
        return None
    return to_diffusers(stored, shape) if are_original(list(stored)) else stored


def _find(weights: str, revision: str | None) -> tuple[str, str, Mapping[str, Any]]:
    if Path(weights).expanduser().is_file():
        raise WeightsError(
            f"backbone.weights: {weights} is one file, which holds the transformer alone; write backbone.transformer="
            f"{weights}, and as backbone.weights the folder or hub id that gives the VAE and the text encoders"
        )
    if weights == POCKET and not (pocket_folder() / INDEX).is_file():
        raise WeightsError(f"backbone.weights: {POCKET}: the shipped weights are missing here; reinstall this package")
    choices = f"{POCKET}, or a hub id such as {FULL_SCALE}"
    return find_checkpoint(
        weights, revision, FOLDERS, PIPELINES, choices, shipped=pocket_folder() if weights == POCKET else None
    )


def _check_parts(weights: str, parts: FluxKontextParts) -> None:
    """The parts fit one another and FLUX.1 Kontext's geometry."""
    transformer, latents = parts.transformer.config, int(parts.vae.config.latent_channels)
    factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    wanted = {
        "vae factor": (factor, 8),
        "transformer in_channels": (transformer.in_channels, 4 * latents),
        "transformer joint_attention_dim": (transformer.joint_attention_dim, parts.text_encoder_2.config.d_model),
        "transformer pooled_projection_dim": (transformer.pooled_projection_dim, parts.text_encoder.config.hidden_size),
    }
    problems = [
        Problem(name, f"found {found}, expected {expected}", "the parts belong to different models")
        for name, (found, expected) in wanted.items()
        if found != expected
    ]
    if problems:
        raise WeightsError(f"backbone.weights: {weights} cannot be used", problems)
