"""Which linear layers an adapter changes by default; no torch."""

from __future__ import annotations

from sigma_backbones.lora import LoraFamily

DOUBLE_TARGETS = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.linear_out")
"""In blocks with two streams, the image's stream alone: the text's layers have other names (``ff_context`` ...)."""
SINGLE_TARGETS = ("attn.to_qkv_mlp_proj", "attn.to_out")
"""In blocks with one stream, with one layer for queries, keys, values and the MLP's input, one for both outputs."""
OUTER_TARGETS = ("x_embedder", "double_stream_modulation_img.linear", "single_stream_modulation.linear")
"""Outside the blocks: the embedding of image tokens, and the modulations that all blocks share."""
DEFAULT_TARGETS = (
    *OUTER_TARGETS,
    *(f"transformer_blocks.*.{name}" for name in DOUBLE_TARGETS),
    *(f"single_transformer_blocks.*.{name}" for name in SINGLE_TARGETS),
)
"""The same roles as in ``flux_kontext``'s list, by FLUX.2's names: 146.3 M parameters at rank 128 on klein 4B."""
LORA = LoraFamily(
    base="FLUX.2 klein",
    pipeline="Flux2KleinPipeline",
    transformer="Flux2Transformer2DModel",
    targets=DEFAULT_TARGETS,
    ids="spatial as target; identity from row 0, column 0, T 10 (FLUX.2, T row column L)",
    described={"modelspec.implementation": "https://github.com/huggingface/diffusers"},
)
"""What this base's adapter files are."""
