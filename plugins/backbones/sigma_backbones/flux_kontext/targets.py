"""Which linear layers an adapter changes by default; no torch."""

from __future__ import annotations

from sigma_backbones.lora import LoraFamily

DOUBLE_TARGETS = ("norm1.linear", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.2")
"""In blocks with two streams, the image's stream alone: the text's layers have other names (``norm1_context`` ...)."""
SINGLE_TARGETS = ("norm.linear", "attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")
"""In blocks with one stream."""
OUTER_TARGETS = ("x_embedder",)
"""Outside the blocks: the embedding of image tokens."""
DEFAULT_TARGETS = (
    *OUTER_TARGETS,
    *(f"transformer_blocks.*.{name}" for name in DOUBLE_TARGETS),
    *(f"single_transformer_blocks.*.{name}" for name in SINGLE_TARGETS),
)
"""OminiControl's list, the paper's lineage (method.md 6): 463.6 M parameters at rank 128 on FLUX.1 Kontext [dev]."""
LORA = LoraFamily(
    base="FLUX.1",
    pipeline="FluxKontextPipeline",
    transformer="FluxTransformer2DModel",
    targets=DEFAULT_TARGETS,
    ids="spatial as target; identity from row 0, first coordinate 1",
    described={
        "modelspec.architecture": "flux-1-dev/lora",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
    },
)
"""What this base's adapter files are."""
