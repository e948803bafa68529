"""From a scene to images: controls, condition images, tokens, sampler, files.

Training takes the same road from layers to tokens; a control image is made by the same lines of code in both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sigma_framework.conditioning.control_image import PROPOSED, ComposedControl, Composition
from sigma_framework.conditioning.identity_image import stack
from sigma_framework.conditioning.insertion_region import insertion_region
from sigma_framework.conditioning.layout_picture import draw_layout
from sigma_framework.conditioning.prompts import render_prompt
from sigma_framework.conditioning.scene_layers import compose_scene, identity_blocks
from sigma_framework.errors import SceneError, WeightsError
from sigma_framework.exhaustion import LESS_TO_GENERATE, told_when_exhausted
from sigma_framework.progress import Progress, Silent, counted
from sigma_framework.protocols import Backbone, ControlEncoder, Sampler
from sigma_framework.run_folder import next_number
from sigma_framework.scene import ResolvedScene
from sigma_framework.types import ControlImages, FloatMap, OnStep, Result, RgbImage, SampleRequest, SubjectPictures

StepCallback = Callable[[Any, int, float, dict[str, Any]], "Mapping[str, Any] | None"]
"""``callback_on_step_end(framework, step, timestep, {"latents": ...}) -> dict``, as in diffusers."""


@dataclass(frozen=True, kw_only=True)
class ImageMaker:
    """The built components of a generate or insert recipe, and its numbers."""

    backbone: Backbone
    """With its adapters loaded."""
    sampler: Sampler
    """The recipe's sampler."""
    needs: frozenset[str]
    """What the sampler's spec says it needs, e.g. ``background``."""
    controls: Mapping[str, ControlEncoder]
    """Encoders by registered control type."""
    identity_size: int
    """Side of an identity block, pixels."""
    identity_padding: float
    """Side of the block over the longer side of a cut-out subject."""
    steps: int
    """Denoising steps."""
    guidance: float | None
    """Distilled guidance."""
    true_cfg: float
    """Classifier-free guidance scale; 1.0 is off."""
    negative_prompt: str = ""
    """Read when ``true_cfg`` is on."""
    composition: Composition = PROPOSED
    """How routing and structure are drawn."""
    at_once: int = 8
    """Images in one batch; more are made one batch after another."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What to record in the result: versions, adapters."""

    def make(
        self,
        resolved: ResolvedScene,
        seeds: Sequence[int],
        on_step: OnStep | None,
        progress: Progress | None = None,
    ) -> Result:
        """Makes one image per seed.

        Raises:
            SceneError: a control makes no sense on the canvas; the problem names the subject.
            WeightsError: the result holds NaN or Inf.
        """
        if not seeds:
            raise SceneError(f"{resolved.scene.origin}: found 0 images to make, expected at least 1")
        show = progress or Silent()
        controls, composed = self.condition(resolved)
        region = insertion_region(controls.regions) if "background" in self.needs else None
        began = time.perf_counter()
        parts = [seeds[start : start + self.at_once] for start in range(0, len(seeds), self.at_once)]
        passes = 1 + len(resolved.subjects) if "subjects" in self.needs else 1
        show.begin(counted(len(seeds), "image"), self.steps * passes * len(parts))
        made = torch.cat(
            [
                self._sample([resolved] * len(part), [controls] * len(part), region, part, _reporting(on_step, show))
                for part in parts
            ]
        )
        show.finish()
        seconds = time.perf_counter() - began
        _require_finite(made)
        scene = resolved.scene
        if resolved.structure is not None:  # a map that grows later keeps the values already given
            scene = scene.with_structure_range(composed.structure_range)
        pictures = [picture_of(image) for image in made]
        if region is not None and resolved.background is not None:
            pictures = [keep_photograph(picture, resolved.background, region) for picture in pictures]
        return Result(
            images=tuple(Image.fromarray(picture) for picture in pictures),
            controls=controls,
            scene=scene,
            seeds=tuple(seeds),
            region=region,
            warnings=(*resolved.warnings, *composed.warnings),
            seconds=seconds,
            facts=self._facts,
        )

    def make_each(self, scenes: Sequence[ResolvedScene], seeds: Sequence[int]) -> list[Result]:
        """One image of each scene, all in one batch.

        Args:
            scenes: of one size and one number of subjects.
            seeds: one per scene.

        Returns:
            One result per scene; its ``seconds`` are its share of the batch's.

        Raises:
            SceneError: a control makes no sense on its canvas; the problem names the subject.
            WeightsError: a result holds NaN or Inf.
        """
        if "background" in self.needs:  # what may change differs from scene to scene
            return [self.make(scene, [seed], None) for scene, seed in zip(scenes, seeds, strict=True)]
        conditioned = [self.condition(scene) for scene in scenes]
        began = time.perf_counter()
        made = self._sample(scenes, [controls for controls, _ in conditioned], None, seeds, None)
        seconds = (time.perf_counter() - began) / len(scenes)
        _require_finite(made)
        return [
            Result(
                images=(Image.fromarray(picture_of(image)),),
                controls=controls,
                scene=resolved.scene.with_structure_range(composed.structure_range)
                if resolved.structure is not None
                else resolved.scene,
                seeds=(seed,),
                warnings=(*resolved.warnings, *composed.warnings),
                seconds=seconds,
                facts=self._facts,
            )
            for image, resolved, (controls, composed), seed in zip(made, scenes, conditioned, seeds, strict=True)
        ]

    def condition(self, resolved: ResolvedScene) -> tuple[ControlImages, ComposedControl]:
        """``condition_scene`` with what this recipe says."""
        return condition_scene(resolved, self.controls, self.identity_size, self.identity_padding, self.composition)

    def _sample(
        self,
        scenes: Sequence[ResolvedScene],
        controls: Sequence[ControlImages],
        region: FloatMap | None,
        seeds: Sequence[int],
        on_step: OnStep | None,
    ) -> torch.Tensor:
        """One batch; raises ``RunError`` when memory runs out."""
        with told_when_exhausted(f"{len(seeds)} images at once" if len(seeds) > 1 else "one image", LESS_TO_GENERATE):
            return self.sampler.sample(self.backbone, self._request(scenes, controls, region, seeds), on_step)

    @property
    def _facts(self) -> dict[str, Any]:
        return {"steps": self.steps, "guidance": self.guidance, "true_cfg": self.true_cfg, **self.facts}

    def _request(
        self,
        scenes: Sequence[ResolvedScene],
        controls: Sequence[ControlImages],
        region: FloatMap | None,
        seeds: Sequence[int],
    ) -> SampleRequest:
        """Encodes prompts and condition images, one scene per image of the batch; sizes are those of the first."""
        first = scenes[0]
        prompts = [render_prompt(resolved.scene.prompt, resolved.scene.prompt_kind) for resolved in scenes]
        with torch.no_grad():
            text = self.backbone.encode_prompt(prompts)
            negative = None
            if self.true_cfg != 1.0:
                negative = self.backbone.encode_prompt([self.negative_prompt] * len(scenes))
            identity = self.backbone.encode_image(image_tensor([one.identity for one in controls]), "identity")
            spatial = self.backbone.encode_image(image_tensor([one.spatial for one in controls]), "spatial")
        background = None
        if first.background is not None:
            background = image_tensor([s.background for s in scenes if s.background is not None])
        return SampleRequest(
            text=text,
            negative_text=negative,
            conditions=(identity, spatial),
            size_hw=first.canvas.size_hw,
            steps=self.steps,
            guidance=self.guidance,
            true_cfg=self.true_cfg,
            generators=tuple(torch.Generator("cpu").manual_seed(seed) for seed in seeds),
            background=background,
            region=None if region is None else torch.from_numpy((region > 0).astype(np.float32)),
            subjects=self._subject_pictures(scenes, controls) if "subjects" in self.needs else None,
        )

    def _subject_pictures(self, scenes: Sequence[ResolvedScene], controls: Sequence[ControlImages]) -> SubjectPictures:
        """Every subject of every scene as the only one of its scene."""
        alone = [
            [self.condition(replace(scene, subjects=(subject,)))[0] for subject in scene.subjects] for scene in scenes
        ]
        regions = [[insertion_region(one.regions) for one in row] for row in alone]
        return SubjectPictures(
            identities=torch.stack([image_tensor([one.identity for one in row]) for row in alone]),
            spatials=torch.stack([image_tensor([one.spatial for one in row]) for row in alone]),
            spatial=image_tensor([one.spatial for one in controls]),
            regions=torch.from_numpy(np.stack([np.stack(row) for row in regions])),
        )


def _require_finite(made: torch.Tensor) -> None:
    """Raises ``WeightsError`` when images hold NaN or Inf."""
    if not bool(torch.isfinite(made).all()):
        raise WeightsError("the image holds NaN or Inf: the weights or an adapter are damaged, or do not fit this base")


def condition_scene(
    resolved: ResolvedScene,
    controls: Mapping[str, ControlEncoder],
    identity_size: int,
    identity_padding: float,
    composition: Composition = PROPOSED,
) -> tuple[ControlImages, ComposedControl]:
    """``I^C``, ``I^S`` and the layout preview of a scene, and what was found while composing (sections 3.3, 3.4).

    Raises:
        SceneError: every control that makes no sense on this canvas, together.
    """
    composed = compose_scene(resolved, controls, composition)
    names = [subject.name for subject in resolved.subjects]
    images = ControlImages(
        spatial=composed.spatial,
        identity=stack(identity_blocks(resolved, identity_size, identity_padding)),
        regions=composed.regions,
        layout=draw_layout(composed.regions, names, resolved.background),
    )
    return images, composed


def image_tensor(images: Sequence[RgbImage]) -> torch.Tensor:
    """(H, W, 3) uint8 pictures of one size -> (b, 3, H, W) float32 in [-1, 1]."""
    stacked = np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
    return torch.from_numpy(stacked).float() / 127.5 - 1


def picture_of(image: torch.Tensor) -> RgbImage:
    """(3, h, w) in [-1, 1] -> (h, w, 3) uint8, rounded to the nearest level."""
    levels = ((image.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(1, 2, 0).numpy()


def keep_photograph(picture: RgbImage, photograph: RgbImage, region: FloatMap) -> RgbImage:
    """Mixes by ``region``; where it is 0 the photograph's pixels stay exactly."""
    share = region[..., None]
    mixed = np.rint(share * picture + (1 - share) * photograph).astype(np.uint8)
    return np.where(share > 0, mixed, photograph)


def write_result(result: Result, folder: Path, recipe: Mapping[str, Any], used: Mapping[str, str]) -> Result:
    """Writes images, layout and condition images under the next free numbers; each PNG carries its scene.

    The scene's input files are copied to ``folder/inputs`` by content hash, so that a PNG in its run folder is a
    scene again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scene = result.scene.copy_inputs(folder)
    document = json.dumps(scene.to_document())
    first, written = next_number(folder), []
    for offset, (image, seed) in enumerate(zip(result.images, result.seeds, strict=True)):
        stem = folder / f"{first + offset:04d}"
        for name, picture in (
            ("layout", result.controls.layout),
            ("spatial", result.controls.spatial),
            ("identity", result.controls.identity),
        ):
            Image.fromarray(picture).save(f"{stem}.{name}.png")
        image.save(f"{stem}.png", pnginfo=_png_text(document, seed, recipe, used))
        written.append(f"{stem}.png")
    return replace(result, paths=tuple(written))


def _png_text(document: str, seed: int, recipe: Mapping[str, Any], used: Mapping[str, str]) -> PngInfo:
    info = PngInfo()
    info.add_itxt("sigma.scene", document)
    info.add_itxt("sigma.seed", str(seed))
    info.add_itxt("sigma.recipe", json.dumps(recipe))
    info.add_itxt("sigma.versions", json.dumps(dict(used)))
    return info


def _reporting(on_step: OnStep | None, progress: Progress) -> OnStep:
    """Progress after each step, then the caller's own callback."""

    def report(step: int, t: float, tensors: dict[str, Any]) -> Mapping[str, Any] | None:
        progress.advance()
        return on_step(step, t, tensors) if on_step is not None else None

    return report
