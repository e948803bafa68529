"""What every backbone is held to. Give it a configuration with tiny random weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from sigma_framework.errors import SigmaError
from sigma_framework.protocols import AdapterDimmer, Backbone
from sigma_framework.recipe.paths import is_bare_word
from sigma_framework.specs import BackboneSpec, ImageSizes, resolve_factory
from sigma_framework.testing.component import ComponentConformance, untouched_global_randomness
from sigma_framework.types import TextTokens, Tokens

if TYPE_CHECKING:
    import torch

ADAPTER = "main"


class BackboneConformance(ComponentConformance):
    """Inherit, set ``spec`` and ``options`` that build a tiny model on the CPU without a network."""

    spec: ClassVar[BackboneSpec]
    protocol = Backbone
    rank: ClassVar[int] = 2
    """Rank of the adapters that are tried."""
    targets: ClassVar[Sequence[str] | None] = None
    """Their target modules; None is the backbone's default list."""
    tolerance: ClassVar[float] = 1e-4
    """Largest difference that counts as rounding, absolute, in float32."""

    def size_hw(self) -> tuple[int, int]:
        """A small picture, higher than wide, in steps that the spec allows."""
        return self.spec.size_multiple * 3, self.spec.size_multiple * 2

    def generators(self, *seeds: int) -> list[torch.Generator]:
        """One per image."""
        import torch

        return [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def images(self, count: int = 1, *, stacked: int = 1, seed: int = 0) -> torch.Tensor:
        """(count, 3, h * stacked, w) smooth pictures in [-1, 1]."""
        import torch

        height, width = self.size_hw()
        drawn = torch.rand(count, 3, 3, 2, generator=self.generators(seed)[0]) * 2 - 1
        return torch.nn.functional.interpolate(drawn, (height * stacked, width), mode="bilinear")

    def predicted(
        self, backbone: Backbone, *, seeds: Sequence[int] = (0,), prompt: str = "a table", **changes: Any
    ) -> torch.Tensor:
        """Velocity of fresh noise under two conditions, at t = 0.6 unless ``changes`` say otherwise."""
        import torch

        count = len(seeds)
        given: dict[str, Any] = {
            "x": backbone.noise(self.size_hw(), self.generators(*seeds)),
            "t": torch.full((count,), 0.6),
            "text": backbone.encode_prompt([prompt] * count),
            "conditions": self.conditions(backbone, count),
            "guidance": 1.0 if backbone.guidance_embedded else None,
        }
        with torch.no_grad():
            return backbone.velocity(**{**given, **changes})

    def conditions(self, backbone: Backbone, count: int = 1, seed: int = 5) -> list[Tokens]:
        """``I^S`` of two identities and ``I^C``, the same for each image of the batch."""
        identity = self.images(stacked=2, seed=seed).expand(count, -1, -1, -1)
        spatial = self.images(seed=seed + 1).expand(count, -1, -1, -1)
        return [backbone.encode_image(identity, "identity"), backbone.encode_image(spatial, "spatial")]

    def with_adapter(self, seed: int = 1) -> Backbone:
        """A fresh backbone with a fresh adapter."""
        backbone: Backbone = self.make()
        backbone.add_adapter(ADAPTER, self.rank, float(self.rank), self.targets, seed)
        return backbone

    def test_adapters_that_come_with_the_weights_lie_there(self) -> None:
        adapters = {} if self.spec.adapters is None else resolve_factory(self.spec.adapters)(self.make_config())
        for name, place in adapters.items():
            assert is_bare_word(name), f"adapters: {name!r} reads like a path; use letters, digits, _ and -"
            assert Path(place).exists(), f"adapters: {name} is said to lie at {place}, where nothing is"

    def test_sizes_are_those_that_the_backbone_can_make(self) -> None:
        made_for = None if self.spec.sizes is None else resolve_factory(self.spec.sizes)(self.make_config())
        if made_for is None:
            return
        assert isinstance(made_for, ImageSizes), f"sizes: gives {type(made_for).__name__}, expected ImageSizes or None"
        assert 0 < made_for.smallest <= made_for.largest, "sizes: smallest and largest are the wrong way round"
        for side in made_for.default:
            assert side % self.spec.size_multiple == 0, f"sizes: {side} is no multiple of {self.spec.size_multiple}"
            assert made_for.smallest <= side <= made_for.largest, f"sizes: {side} lies beyond smallest and largest"

    def test_noise_is_each_generators_own(self) -> None:
        backbone = self.make()
        with untouched_global_randomness():
            both = backbone.noise(self.size_hw(), self.generators(3, 4))
        alone = backbone.noise(self.size_hw(), self.generators(4))
        assert both.values.shape[0] == 2
        assert both.values[1].equal(alone.values[0]), "image 1 of a batch differs from the same seed alone"
        assert not both.values[0].equal(both.values[1]), "two seeds gave the same noise"
        assert both.ids.shape[0] == both.length, "noise: one row of ids per token"
        assert both.values.std() == pytest.approx(1, abs=0.2), "noise must be standard Gaussian"

    def test_roles_have_their_position_ids(self) -> None:
        backbone, images = self.make(), self.images()
        target = backbone.noise(self.size_hw(), self.generators(0))
        clean, spatial = backbone.encode_image(images, "target"), backbone.encode_image(images, "spatial")
        identity = backbone.encode_image(self.images(stacked=3), "identity")
        assert clean.values.shape == target.values.shape, "a picture and noise of one size have different shapes"
        assert clean.ids.equal(target.ids), "target: an encoded picture and noise have different ids"
        assert spatial.ids.equal(target.ids), "spatial: ids must be exactly the target's (section 4.1)"
        assert identity.length == 3 * target.length, "identity: three stacked pictures have three times the tokens"
        assert identity.ids.shape == (identity.length, target.ids.shape[1]), "identity: one row of ids per token"
        rows = {tuple(row) for row in target.ids.tolist()}
        assert not rows & {tuple(row) for row in identity.ids.tolist()}, "identity: ids collide with the target's"

    def test_encoding_is_deterministic_and_decodes_to_pictures(self) -> None:
        import torch

        backbone, images = self.make(), self.images(2)
        with torch.no_grad(), untouched_global_randomness():
            first, second = backbone.encode_image(images, "target"), backbone.encode_image(images, "target")
            assert first.values.equal(second.values), "encoding a picture twice gave different latents"
            decoded = backbone.decode(first.values, self.size_hw())
        assert decoded.shape == images.shape, f"decode: found {tuple(decoded.shape)}, expected {tuple(images.shape)}"
        assert bool(torch.isfinite(decoded).all()), "decode: not finite"
        assert float(decoded.abs().max()) <= 1 + 1e-3, "decode: outside [-1, 1]"

    def test_prompts_are_told_apart(self) -> None:
        backbone = self.make()
        text: TextTokens = backbone.encode_prompt(["a red cube", "a red cube", "a blue ball"])
        assert text.values.shape[0] == 3
        assert text.ids.shape[0] == text.values.shape[1], "text: one row of ids per token"
        assert text.values[0].equal(text.values[1]), "equal prompts gave different tokens"
        assert not text.values[0].equal(text.values[2]), "different prompts gave equal tokens"
        if text.pooled is not None:
            assert not text.pooled[0].equal(text.pooled[2]), "different prompts gave one pooled vector"

    def test_timesteps_go_from_noise_to_nothing(self) -> None:
        backbone = self.make()
        for count in (1, 2, 20):
            times = backbone.timesteps(count, 64).tolist()
            assert len(times) == count + 1, f"timesteps: found {len(times)} values, expected {count + 1}"
            assert times[-1] == 0, "timesteps must end at exactly 0"
            assert 0.9 <= times[0] <= 1, f"timesteps must start at noise (1), found {times[0]}"
            assert all(a > b for a, b in itertools.pairwise(times)), "timesteps must descend"

    def test_velocity_is_of_the_target_alone(self) -> None:
        import torch

        backbone = self.make()
        x = backbone.noise(self.size_hw(), self.generators(0, 1))
        velocity = self.predicted(backbone, seeds=(0, 1))
        assert velocity.shape == x.values.shape, f"velocity: found {tuple(velocity.shape)}, expected the shape of x"
        assert bool(torch.isfinite(velocity).all()), "velocity: not finite"

    def test_velocity_listens_to_everything(self) -> None:
        import torch

        backbone = self.make()
        base = self.predicted(backbone)
        changed = {
            "t": self.predicted(backbone, t=torch.tensor([0.2])),
            "text": self.predicted(backbone, prompt="seven green birds"),
            "conditions": self.predicted(backbone, conditions=self.conditions(backbone, seed=50)),
            "noise": self.predicted(backbone, seeds=(9,)),
        }
        deaf = [name for name, velocity in changed.items() if torch.equal(velocity, base)]
        assert not deaf, f"velocity does not change with {', '.join(deaf)}"

    def test_velocity_of_an_image_ignores_its_batch(self) -> None:
        import torch

        backbone = self.make()
        batch, alone = self.predicted(backbone, seeds=(0, 1)), self.predicted(backbone, seeds=(1,))
        assert torch.allclose(batch[1].float(), alone[0].float(), atol=self.tolerance), "rows of a batch mix"

    def test_region_tokens_cover_what_they_touch(self) -> None:
        import torch

        backbone, (height, width) = self.make(), self.size_hw()
        length = backbone.noise((height, width), self.generators(0)).values.shape
        nothing, everything = torch.zeros(height, width), torch.ones(height, width)
        one_pixel = nothing.clone()
        one_pixel[-1, -1] = 1
        tokens = backbone.region_tokens(one_pixel)
        assert tokens.shape == (1, *length[1:]), f"region_tokens: found {tuple(tokens.shape)}, expected (1, l, d)"
        assert set(tokens.unique().tolist()) == {0.0, 1.0}, "region_tokens: one pixel touches some values, not all"
        assert not bool(tokens[0, 0].any()), "region_tokens: the last pixel is not in the first token"
        assert not bool(backbone.region_tokens(nothing).any()), "region_tokens: nothing is not empty"
        assert bool((backbone.region_tokens(everything) == 1).all()), "region_tokens: everything is not full"

    def test_a_fresh_adapter_changes_nothing(self) -> None:
        import torch

        assert not self.make().trainable_parameters(), "without an adapter nothing is trainable"
        base, fresh = self.predicted(self.make()), self.predicted(self.with_adapter())
        assert torch.allclose(base, fresh, atol=self.tolerance), "a fresh adapter changes the velocity"

    def test_only_the_adapter_is_trained(self) -> None:
        import torch

        backbone = self.with_adapter()
        parameters = backbone.trainable_parameters()
        assert parameters, "after add_adapter nothing is trainable"
        wrong = [name for name, p in parameters.items() if p.dtype != torch.float32 or not p.requires_grad]
        assert not wrong, f"adapter parameters must be float32 and require gradients: {wrong[:3]}"
        text, conditions = backbone.encode_prompt(["a table"]), self.conditions(backbone)
        x = backbone.noise(self.size_hw(), self.generators(0))
        guidance = 1.0 if backbone.guidance_embedded else None
        loss = backbone.velocity(x, torch.tensor([0.6]), text, conditions, guidance).square().mean()
        torch.autograd.backward(loss)
        held = {id(parameter) for parameter in parameters.values()}
        free = [p for m in backbone.modules() for p in m.parameters() if p.requires_grad and id(p) not in held]
        assert not free, f"{len(free)} parameters besides the adapter's require gradients; the base must stay frozen"
        moved = [name for name, p in parameters.items() if p.grad is not None and bool(p.grad.any())]
        assert moved, "no gradient reaches the adapter"

    def test_weaker_adapters_lie_between_the_base_and_the_whole(self) -> None:
        backbone = self.with_adapter()
        if not isinstance(backbone, AdapterDimmer):
            return  # it need not be able to; nothing but guidance away from weaker adapters asks for it
        _disturb(backbone)
        whole, base = self.predicted(backbone), self.predicted(self.make())
        with backbone.dim_adapters(0.0):
            none = self.predicted(backbone)
        with backbone.dim_adapters(0.5):
            with backbone.dim_adapters(0.0):
                pass
            half = self.predicted(backbone)
        assert none.allclose(base, atol=self.tolerance), "dim_adapters(0) is not the base alone"
        assert not half.allclose(base, atol=self.tolerance), "dim_adapters(0.5) switches the adapter off"
        assert not half.allclose(whole, atol=self.tolerance), "dim_adapters(0.5) changes nothing"
        assert self.predicted(backbone).equal(whole), "after dim_adapters the adapter is not what it was"

    def test_modules_hold_the_adapter(self) -> None:
        backbone = self.with_adapter()
        held = {id(parameter) for module in backbone.modules() for parameter in module.parameters()}
        strays = [name for name, value in backbone.trainable_parameters().items() if id(value) not in held]
        assert not strays, f"modules() must hold every adapter parameter, or it stays on another device: {strays[:3]}"

    def test_adapters_are_drawn_from_their_seed(self) -> None:
        first, again = self.with_adapter(1).trainable_parameters(), self.with_adapter(1).trainable_parameters()
        other = self.with_adapter(2).trainable_parameters()
        assert list(first) == list(again), "parameter names differ between two builds"
        assert all(first[name].equal(again[name]) for name in first), "equal seeds gave different adapters"
        assert any(not first[name].equal(other[name]) for name in first), "two seeds gave one adapter"

    def test_adapters_survive_a_file(self, tmp_path: Path) -> None:
        import torch

        trained = self.with_adapter()
        _disturb(trained)
        path = trained.save_adapter(tmp_path, ADAPTER, {"sigma.test": "1"})
        assert path.is_file(), "save_adapter must give the path of the file it wrote"
        base, wanted = self.predicted(self.make()), self.predicted(trained)
        assert not torch.allclose(base, wanted, atol=self.tolerance), "a changed adapter does not change the velocity"
        for source in (path, tmp_path):
            loaded = self.make()
            loaded.load_adapter(source, ADAPTER, 1.0)
            assert torch.allclose(self.predicted(loaded), wanted, atol=self.tolerance), "the loaded adapter differs"
            assert not loaded.trainable_parameters(), "an adapter loaded for use is not trainable"
        off, going_on = self.make(), self.make()
        off.load_adapter(path, ADAPTER, 0.0)
        assert torch.allclose(self.predicted(off), base, atol=self.tolerance), (
            "weight 0 does not switch the adapter off"
        )
        going_on.load_adapter(path, ADAPTER, 1.0, trainable=True)
        assert sorted(going_on.trainable_parameters()) == sorted(trained.trainable_parameters()), "names changed"

    def test_a_file_that_is_no_adapter_is_refused(self, tmp_path: Path) -> None:
        wrong = tmp_path / "pytorch_lora_weights.safetensors"
        wrong.write_bytes(b"no adapter")
        with pytest.raises(SigmaError):
            self.make().load_adapter(wrong, ADAPTER, 1.0)


def _disturb(backbone: Backbone) -> None:
    """Gives every adapter parameter a value, as training would."""
    import torch

    generator = torch.Generator("cpu").manual_seed(11)
    with torch.no_grad():
        for parameter in backbone.trainable_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
