"""The tiny backbone passes the kit, and can be trained."""

from __future__ import annotations

import torch

from sigma_framework import Tokens
from sigma_framework.testing import TINY_SPEC, BackboneConformance, TinyBackbone, toy_request


class TestTinyBackbone(BackboneConformance):
    spec = TINY_SPEC


def test_encode_inverts_decode() -> None:
    backbone = TinyBackbone()
    values = torch.rand(2, 48, 48, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    again = backbone.encode_image(backbone.decode(values, (48, 64)), "target").values
    assert torch.allclose(again, values, atol=1e-5)


def test_an_adapter_learns_one_picture() -> None:
    backbone = TinyBackbone()
    backbone.add_adapter("main", 16, 16.0, None, seed=0)
    request = toy_request(backbone, (0,), background=True)
    assert request.background is not None
    clean = backbone.encode_image(request.background, "target")
    optimizer = torch.optim.Adam(backbone.trainable_parameters().values(), lr=0.02)
    losses = []
    for step in range(60):
        noise = backbone.noise((64, 64), [torch.Generator().manual_seed(step)])
        x = Tokens(values=0.5 * clean.values + 0.5 * noise.values, ids=clean.ids)
        velocity = backbone.velocity(x, torch.tensor([0.5]), request.text, request.conditions)
        loss = (velocity - (noise.values - clean.values)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
