"""What stays the same from step to step of one denoising loop, built once; the transformer is called as diffusers does.

Position ids, their rotary embedding, and the text and condition tokens in the transformer's numbers depend on the call
alone. They are recognised by their tensors, so a sampler needs to do nothing; while gradients are recorded only the
rotary embedding is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from sigma_framework import TextTokens, Tokens

Built = TypeVar("Built")
KEPT_EMBEDDINGS = 4
"""Rotary embeddings in memory: 14 MB each at ten identities of full scale; classifier-free guidance needs one."""
KEPT_INPUTS = 2
"""Texts in memory: the prompt and the negative prompt."""


class Kept(Generic[Built]):
    """The newest results of building from tensors; a tensor that was written to since counts as another one."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, tuple[tuple[Tensor, ...], Built]] = OrderedDict()

    def get(self, tensors: Sequence[Tensor], settings: Hashable, build: Callable[[], Built]) -> Built:
        """What was built from these very tensors, else a new one; holding them keeps their identity unique."""
        key = (settings, *((id(tensor), _version(tensor)) for tensor in tensors))
        if key not in self._entries:
            self._entries[key] = (tuple(tensors), build())
            if len(self._entries) > self._size:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key][1]


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True, kw_only=True, eq=False)
class StepInputs:
    """Arguments of the transformer that no step changes."""

    text: Tensor
    """(b, l, d) in the transformer's numbers."""
    pooled: Tensor | None
    """(b, p) in the transformer's numbers."""
    text_ids: Tensor
    """(l, 3)."""
    ids: Tensor
    """(l, 3) of the target and the conditions, in their order."""
    conditions: Tensor | None
    """(b, l, d) of all conditions, in the transformer's numbers."""
    control: Tensor | None = None
    """(b, l, d) latents of the picture that an external control network reads."""


class KeptPositions(nn.Module):
    """In the place of ``pos_embed``: the same embedding, computed once for the ids that a step names.

    Without a name (another caller's ids) it computes, as the layer of diffusers does.
    """

    def __init__(self, computed: nn.Module) -> None:
        super().__init__()
        self.computed = computed
        self.named: tuple[Tensor, ...] | None = None
        self._kept: Kept[Any] = Kept(KEPT_EMBEDDINGS)

    def forward(self, ids: Tensor) -> Any:
        """(cos, sin) of the ids (l, 3)."""
        if self.named is None:
            return self.computed(ids)
        return self._kept.get(self.named, (ids.device, torch.is_inference_mode_enabled()), lambda: self.computed(ids))


@dataclass(eq=False)
class StepPlan:
    """What one call of the transformer may leave out: set for the call, empty for every other caller."""

    rows: int | None = None
    """Image tokens whose velocity is wanted; None is all."""
    kept: Kept[StepInputs] = field(default_factory=lambda: Kept(KEPT_INPUTS))

    def inputs(
        self, text: TextTokens, x: Tokens, conditions: Sequence[Tokens], settings: Hashable, build: Callable[[], Any]
    ) -> StepInputs:
        """Built once for these texts and conditions; anew each time while gradients are recorded."""
        if torch.is_grad_enabled():
            return build()
        parts = [text.values, text.ids, x.ids, *(part for one in conditions for part in (one.values, one.ids))]
        return self.kept.get([*parts, *([text.pooled] if text.pooled is not None else [])], settings, build)

    @contextmanager
    def step(self, transformer: Any, names: tuple[Tensor, ...], rows: int) -> Any:
        """Inside, ``pos_embed`` knows its ids by ``names`` and the last layers see the first ``rows`` tokens."""
        positions = transformer.pos_embed
        self.rows = rows if getattr(transformer, "_parallel_config", None) is None else None
        positions.named = names
        try:
            yield
        finally:
            self.rows, positions.named = None, None


def plan_steps(transformer: Any) -> StepPlan:
    """Prepares a ``FluxTransformer2DModel``: no parameter, no name in its state and no result changes.

    The rows of condition tokens are dropped before ``norm_out``: nothing reads their velocity. A sequence that is
    spread over several devices is left whole.
    """
    if not isinstance(transformer.pos_embed, KeptPositions):
        transformer.pos_embed = KeptPositions(transformer.pos_embed)
    plan = StepPlan()

    def keep_wanted(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if plan.rows is None:
            return None
        return (arguments[0][:, : plan.rows], *arguments[1:])

    transformer.norm_out.register_forward_pre_hook(keep_wanted)
    return plan
