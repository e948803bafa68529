"""What every sampler is held to, on the tiny backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sigma_framework.protocols import Backbone, Sampler
from sigma_framework.specs import SamplerSpec
from sigma_framework.testing.component import ComponentConformance, untouched_global_randomness
from sigma_framework.testing.tiny_backbone import TinyBackbone
from sigma_framework.testing.toys import toy_request
from sigma_framework.types import OnStep, SampleRequest

if TYPE_CHECKING:
    import torch


class SamplerConformance(ComponentConformance):
    """Inherit, set ``spec``; ``options`` where the config has required fields."""

    spec: ClassVar[SamplerSpec]
    protocol = Sampler
    steps: ClassVar[int] = 3
    """Steps of every test."""
    passes: ClassVar[int] = 1
    """Denoising loops of one call with two subjects; steps are counted through, t runs from 1 to 0 in each."""
    tolerance: ClassVar[float] = 1e-4
    """Largest difference that counts as rounding, in image units of [-1, 1]."""

    def backbone(self) -> Backbone:
        """A small backbone to sample with."""
        return TinyBackbone()

    def sampled(self, seeds: Sequence[int], steps: int | None = None, on_step: OnStep | None = None) -> torch.Tensor:
        """(b, 3, 64, 64): one image per seed, with everything the spec needs in the request."""
        backbone = self.backbone()
        request = self.request(backbone, seeds, steps)
        sampler: Sampler = self.make()
        return sampler.sample(backbone, request, on_step)

    def request(self, backbone: Backbone, seeds: Sequence[int] = (0,), steps: int | None = None) -> SampleRequest:
        """What the spec needs for one image per seed."""
        needs = self.spec.needs
        return toy_request(
            backbone,
            seeds,
            steps=steps or self.steps,
            background="background" in needs,
            subjects="subjects" in needs,
        )

    def test_images_are_images(self) -> None:
        import torch

        images = self.sampled((0, 1))
        assert images.shape == (2, 3, 64, 64), f"found {tuple(images.shape)}, expected (2, 3, 64, 64)"
        assert not images.requires_grad, "sampling keeps the graph of every step; use torch.no_grad"
        assert bool(torch.isfinite(images).all()), "not finite"
        assert float(images.abs().max()) <= 1 + 1e-3, "outside [-1, 1]"

    def test_equal_seeds_give_equal_images(self) -> None:
        import torch

        with untouched_global_randomness():
            first, second = self.sampled((3,)), self.sampled((3,))
        assert torch.equal(first, second), "the same seed gave another image"
        assert not torch.equal(first, self.sampled((4,))), "two seeds gave one image"

    def test_an_image_ignores_its_batch(self) -> None:
        import torch

        batch, alone = self.sampled((3, 4)), self.sampled((4,))
        assert torch.allclose(batch[1], alone[0], atol=self.tolerance), "an image depends on the others of its batch"

    def test_one_step_is_enough(self) -> None:
        assert self.sampled((0,), steps=1).shape[0] == 1

    def test_conditions_matter(self) -> None:
        from dataclasses import replace

        import torch

        backbone = self.backbone()
        request = self.request(backbone)
        blank = replace(request, conditions=(), generators=(torch.Generator("cpu").manual_seed(0),))
        if request.subjects is not None:
            white = torch.ones_like(request.subjects.identities)
            blank = replace(blank, subjects=replace(request.subjects, identities=white))
        sampler: Sampler = self.make()
        assert not torch.equal(sampler.sample(backbone, request), sampler.sample(backbone, blank)), (
            "conditions are ignored"
        )

    def test_callback_sees_every_step(self) -> None:
        seen: list[tuple[int, float]] = []

        def watch(step: int, t: float, state: dict[str, Any]) -> Mapping[str, Any] | None:
            assert state["latents"].ndim == 3, "latents must be (b, l, d)"
            seen.append((step, t))
            return None

        self.sampled((0,), on_step=watch)
        steps, times = [step for step, _ in seen], [t for _, t in seen]
        total = self.steps * self.passes
        assert steps == list(range(total)), f"callback: found steps {steps}, expected 0..{total - 1}"
        for start in range(0, total, self.steps):
            loop = times[start : start + self.steps]
            assert loop[-1] == 0, "callback: after the last step t must be 0"
            assert loop == sorted(loop, reverse=True), "callback: t must descend"

    def test_callback_may_replace_the_latents(self) -> None:
        import torch

        def grey(step: int, t: float, state: dict[str, Any]) -> Mapping[str, Any] | None:
            return {"latents": torch.zeros_like(state["latents"])} if (step + 1) % self.steps == 0 else None

        first, second = self.sampled((0,), on_step=grey), self.sampled((1,), on_step=grey)
        assert torch.equal(first, second), "latents that the callback gave back at the last step were not used"

    def test_the_background_stays_outside_the_region(self) -> None:

        if "background" not in self.spec.needs:
            return
        backbone = self.backbone()
        request = self.request(backbone)
        assert request.background is not None
        assert request.region is not None
        kept = backbone.region_tokens(request.region) == 0
        final: dict[str, torch.Tensor] = {}

        def watch(step: int, t: float, state: dict[str, Any]) -> None:
            final["latents"] = state["latents"]

        sampler: Sampler = self.make()
        sampler.sample(backbone, request, watch)
        clean = backbone.encode_image(request.background, "target").values
        change = (final["latents"] - clean).abs()
        assert float(change[kept].max()) <= self.tolerance, (
            "after the last step latents outside the region have changed"
        )
        assert float(change[~kept].max()) > self.tolerance, "nothing was made inside the region"
