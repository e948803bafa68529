"""What the pocket VAE keeps: python bench/pocket_vae.py [pictures per kind, default 200] [folder of photographs]

Mode of the posterior; PSNR is the mean over pictures. A region of a control image counts where at least one token
(256 pixels) of it shows in a routing channel, and is right when its mean there decodes to within half a routing step.
The linear code is what the encoder started as, 16 cosines of every 8 x 8 patch: it says how hard a picture is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from PIL import Image, ImageOps

from sigma_backbones import pocket_folder
from sigma_backbones.pocket_training.patch_code import patches
from sigma_datasources.toybox.config import ToyboxConfig
from sigma_datasources.toybox.source import ToyboxSource
from sigma_framework import Canvas, ControlLayer, Example
from sigma_framework.conditioning.control_image import compose
from sigma_framework.conditioning.identity_image import stack

SIDE, TOKEN_PIXELS, HALF_STEP = 128, 256, 5.0
SIMPLE_DB = 30.0
"""Scenes of which the linear code keeps this much count as simple."""
Picture = NDArray[np.uint8]


def main() -> None:
    """Prints one Markdown row per kind of picture."""
    torch.set_num_threads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    vae = AutoencoderTiny.from_pretrained(pocket_folder() / "vae").eval()
    latents: list[torch.Tensor] = []
    print("| held-out pictures | PSNR, dB | |\n|---|---|---|")
    any_count = ToyboxSource(ToyboxConfig(split="test", count=count))
    scenes = [any_count[index].target for index in range(count)]
    found = [psnr(picture, kept(vae, picture, latents)) for picture in scenes]
    linear = np.array([psnr(picture, by_linear_code(picture)) for picture in scenes])
    print(f"| {count} scenes | {np.mean(found):.1f} | linear code {linear.mean():.1f} |", flush=True)
    if (simple := linear >= SIMPLE_DB).any():
        many, mean = int(simple.sum()), float(linear[simple].mean())
        print(f"| the {many} simplest of them | {np.mean(np.array(found)[simple]):.1f} | linear code {mean:.1f} |")
    identities = [stack(any_count[index].identities[:1]) for index in range(count)]
    print(f"| {count} identities | {mean_psnr(vae, identities, latents):.1f} | |", flush=True)
    ten = ToyboxSource(ToyboxConfig(split="test", min_subjects=10, max_subjects=10, count=count))
    controls = [control_image(ten[index]) for index in range(count)]
    right = [found for image in controls for found in routing(vae, image)]
    share = f"{100 * np.mean(right):.1f} % of {len(right)} regions within half a routing step"
    print(f"| {count} control images, 10 subjects | {mean_psnr(vae, controls, latents):.1f} | {share} |", flush=True)
    if len(sys.argv) > 2:
        photographs = list(crops(Path(sys.argv[2])))[:count]
        print(f"| {len(photographs)} photographs | {mean_psnr(vae, photographs, latents):.1f} | |")
    values = torch.cat([one.flatten() for one in latents])
    print(f"\nlatents: mean {values.mean():.3f}, standard deviation {values.std():.3f}")


def mean_psnr(vae: AutoencoderTiny, pictures: Sequence[Picture], latents: list[torch.Tensor]) -> float:
    """Over pictures; keeps their latents."""
    return float(np.mean([psnr(picture, kept(vae, picture, latents)) for picture in pictures]))


def kept(vae: AutoencoderTiny, picture: Picture, latents: list[torch.Tensor]) -> Picture:
    """What comes back; its latents are added to the list."""
    code, back = decoded(vae, picture)
    latents.append(code)
    return back


def psnr(picture: Picture, back: Picture) -> float:
    """Of uint8 pictures, dB."""
    return float(10 * np.log10(255**2 / np.mean((back.astype(np.float64) - picture) ** 2)))


def by_linear_code(picture: Picture) -> Picture:
    """A picture whose sides are multiples of 8, from its code alone."""
    height, width = (side // 8 for side in picture.shape[:2])
    basis = patches().flatten(1).double().numpy()
    cut = picture.reshape(height, 8, width, 8, 3).transpose(0, 2, 1, 3, 4).reshape(height, width, 192)
    back = (cut @ basis.T @ basis).reshape(height, width, 8, 8, 3).transpose(0, 2, 1, 3, 4)
    return back.reshape(picture.shape).round().clip(0, 255).astype(np.uint8)


@torch.no_grad()
def decoded(vae: AutoencoderTiny, picture: Picture) -> tuple[torch.Tensor, Picture]:
    """Normalised latents, and the picture that comes back."""
    image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    latents = vae.encode(image).latents
    back = ((vae.decode(latents).sample[0].clamp(-1, 1) + 1) * 127.5).round().byte()
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    return (latents - shift) * vae.config.scaling_factor, back.permute(1, 2, 0).numpy()


def control_image(example: Example) -> Picture:
    """``I^C`` by masks with depth."""
    height, width = example.target.shape[:2]
    canvas = Canvas(width=width, height=height, camera=example.subjects[0].camera)
    layers = [ControlLayer(region=s.mask, depth=s.depth) for s in example.subjects]
    return compose(layers, [s.caption for s in example.subjects], canvas).spatial


def routing(vae: AutoencoderTiny, image: Picture) -> Iterator[bool]:
    """Per region of a token or more, in both routing channels: is its intensity told?"""
    back = decoded(vae, image)[1].astype(np.float64)
    for channel in (0, 1):
        for value in np.unique(image[..., channel]):
            shown = image[..., channel] == value
            if value and shown.sum() >= TOKEN_PIXELS:
                yield abs(back[..., channel][shown].mean() - value) <= HALF_STEP


def crops(folder: Path) -> Iterator[Picture]:
    """Centre crops of photographs at 128 pixels."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
            with Image.open(path) as photograph:
                yield np.asarray(ImageOps.fit(photograph.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
