"""The estimate of ``--explain`` against the live tensors of real passes, and what profiles save."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sigma_backbones.checkpointing import BlockCheckpointing
from sigma_backbones.flux_kontext.config import FULL_SCALE, FluxKontextConfig
from sigma_backbones.flux_kontext.explain import explain
from sigma_backbones.flux_kontext.memory_estimate import activations, kept_numbers
from sigma_backbones.flux_kontext.targets import DEFAULT_TARGETS
from sigma_backbones.lora import target_pattern

SHAPE: dict[str, Any] = {
    "in_channels": 64, "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 128, "num_attention_heads": 3,
    "joint_attention_dim": 64, "pooled_projection_dim": 32, "guidance_embeds": True,
}  # fmt: skip
TEXT = 32
FACTS = {"size_hw": (1024, 1024), "identity_size": 512, "subjects": 3, "rank": 128, "batch_size": 1, "task": "generate"}


class LiveStorages(TorchDispatchMode):
    """Adds up what tensors that come out of operations hold, until the last of them is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return out

    def note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.forget, key)

    def forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def measured(tokens: int, *, trains: bool, checkpointing: bool, twice: int = 3) -> int:
    """Peak of the live tensors of one pass with ``tokens`` image tokens in bfloat16, so many blocks computed twice."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(**SHAPE).to(torch.bfloat16).requires_grad_(False)
    if trains:
        transformer.add_adapter(LoraConfig(r=8, lora_alpha=8, target_modules=target_pattern(DEFAULT_TARGETS)))
        for name, parameter in transformer.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.float()
    if checkpointing:
        blocks = BlockCheckpointing(transformer, None, kept_numbers)
        blocks.twice = twice
        transformer.enable_gradient_checkpointing(blocks)
    with LiveStorages() as live, torch.set_grad_enabled(trains):
        velocity = transformer(
            hidden_states=torch.zeros(1, tokens, 64, dtype=torch.bfloat16),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            pooled_projections=torch.zeros(1, 32, dtype=torch.bfloat16),
            encoder_hidden_states=torch.zeros(1, TEXT, 64, dtype=torch.bfloat16),
            txt_ids=torch.zeros(TEXT, 3),
            img_ids=torch.zeros(tokens, 3),
            return_dict=False,
        )[0]
        if trains:
            velocity.float().square().mean().backward()
    return live.peak


@pytest.mark.parametrize(
    ("trains", "checkpointing"),
    [(False, False), (True, False), (True, True)],
    ids=["generate", "train", "checkpointed"],
)
def test_activations_are_what_a_pass_holds(trains: bool, checkpointing: bool) -> None:
    few, many = 256, 1024
    with torch.random.fork_rng():
        counted = [measured(count, trains=trains, checkpointing=checkpointing) for count in (few, many)]
    config = FluxKontextConfig(dtype="bfloat16", gradient_checkpointing=checkpointing)
    facts = {"task": "train" if trains else "generate", "batch_size": 1}
    estimated = [activations(config, facts, SHAPE, {"total": count}) for count in (few, many)]
    assert counted[1] - counted[0] == pytest.approx(estimated[1] - estimated[0], rel=0.1)


def test_blocks_computed_twice_save_what_the_plan_says() -> None:
    few, many, width = 256, 1024, 384
    with torch.random.fork_rng():
        counted = [measured(count, trains=True, checkpointing=True, twice=2) for count in (few, many)]
    assert counted[1] - counted[0] == pytest.approx(kept_numbers(2, 1, 2, 2) * width * 2 * (many - few), rel=0.1)


def memory(facts: dict[str, object] | None = None, **options: object) -> dict[str, int]:
    return dict(explain(FluxKontextConfig(weights=FULL_SCALE, **options), {**FACTS, **(facts or {})})["memory_bytes"])


def test_profiles_save_what_they_promise() -> None:
    found = memory()
    assert found["peak"] == found["peak_full"] > found["peak_balanced"] > found["peak_low"]
    assert found["peak_full"] - found["peak_balanced"] == pytest.approx(9.77e9, rel=0.01), "the text encoders"
    assert found["peak_low"] < 12e9, "a 12 GB card"
    assert 24e9 < found["peak_balanced"] < 33e9
    assert memory(memory="low")["peak"] == found["peak_low"]
    assert memory(memory="low", offload="none")["peak"] > found["peak_balanced"]


def test_more_subjects_and_larger_pictures_need_more() -> None:
    for profile in ("peak_full", "peak_balanced", "peak_low"):
        peaks = [memory({"subjects": count})[profile] for count in (1, 5, 10)]
        assert peaks == sorted(peaks)
        assert peaks[0] < peaks[2] or profile == "peak_low"
    assert memory({"size_hw": (512, 512)})["peak_full"] < memory()["peak_full"]


def test_a_profile_that_does_not_train_is_not_offered_for_training() -> None:
    found = memory({"task": "train"}, gradient_checkpointing=True)
    assert "peak_low" not in found
    assert found["peak_full"] > memory({"task": "generate"})["peak_full"]
