"""What an adapter was trained with, written into its file and compared with the recipe that uses it; no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from sigma_framework.conditioning.control_image import ROUTING_STEP
from sigma_framework.conditioning.prompts import BACKGROUND_TEMPLATE, FULL_TEMPLATE
from sigma_framework.errors import Problem, WeightsError
from sigma_framework.recipe.records import Recipe

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""What training writes, and what is looked for in a folder."""
COMPARED = {
    "sigma.prompt_background": "this version renders background prompts in another way; use the version it is from",
    "sigma.prompt_full": "this version renders full prompts in another way; use the version it is from",
    "sigma.intensity_step": "this version draws routing in other steps; use the version it is from",
    "sigma.identity_size": "write conditioning.identity_size={found}, or take an adapter trained at this size",
    "sigma.routing": "write conditioning.routing={found}, or take an adapter trained with this routing",
    "sigma.structure": "write conditioning.structure={found}, or take an adapter trained with this structure",
    "sigma.ids": "this version gives the condition images other position ids; use the version it is from",
}
"""Facts that an adapter and the run it serves must agree in, and what to do where they do not."""


def adapter_facts(recipe: Recipe) -> dict[str, str]:
    """What a reader of the adapter must know to use it, as text for the file's metadata."""
    digest = hashlib.sha256(json.dumps(recipe.plain(), sort_keys=True).encode()).hexdigest()
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.title": recipe.name,
        "sigma.prompt_background": f"{BACKGROUND_TEMPLATE}<background prompt>",
        "sigma.prompt_full": f"{FULL_TEMPLATE}<full prompt>",
        "sigma.intensity_step": str(ROUTING_STEP),
        "sigma.identity_size": str(recipe.conditioning.identity_size),
        "sigma.routing": recipe.conditioning.routing,
        "sigma.structure": recipe.conditioning.structure,
        "sigma.ids": "spatial as target; identity from row 0, first coordinate 1",
        "sigma.recipe_sha256": digest,
    }


def check_facts(name: str, found: Mapping[str, str] | None, recipe: Recipe) -> None:
    """Compares an adapter's own facts with the recipe's; what the file does not say is not compared.

    Raises:
        WeightsError: they disagree; every difference is named.
    """
    compare_facts(f"adapter {name}", found, adapter_facts(recipe))


def compare_facts(place: str, found: Mapping[str, str] | None, wanted: Mapping[str, str]) -> None:
    """Compares an adapter's facts with those of the run it serves; what either does not say is not compared.

    Args:
        place: how messages call the adapter.
        found: the text in the adapter's header; None where the base reads none.
        wanted: see ``adapter_facts``.

    Raises:
        WeightsError: they disagree; every difference is named.
    """
    problems = [
        Problem(fact, f'found "{found[fact]}", this recipe has "{wanted[fact]}"', remedy.format(found=found[fact]))
        for fact, remedy in COMPARED.items()
        if found is not None and fact in found and fact in wanted and found[fact] != wanted[fact]
    ]
    if len(problems) == 1:
        raise WeightsError(f"{place} was trained for something else: {problems[0]}")
    if problems:
        raise WeightsError(f"{place} was trained for something else", problems)


def check_digest(name: str, path: Path, sha256: str | None) -> None:
    """Compares a file with the SHA-256 that the recipe expects.

    Raises:
        WeightsError: another file, or none to compare.
    """
    if sha256 is None:
        return
    file = path / ADAPTER_FILE if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            f"adapters.{name}.sha256: found no file to compare at {path}, expected an adapter's file or folder in "
            f"adapters.{name}.path"
        )
    digest = digest_of(file)
    if digest != sha256.lower():
        raise WeightsError(
            f"adapter {file}: its SHA-256 differs from adapters.{name}.sha256: found {digest}, expected {sha256}; "
            "download it again from where the recipe's author published it"
        )


def digests_of(recipe: Recipe) -> dict[str, str]:
    """SHA-256 of every adapter that is a file, by its name in the recipe."""
    found = {}
    for name, adapter in recipe.adapters.items():
        file = Path(adapter.path) / ADAPTER_FILE if Path(adapter.path).is_dir() else Path(adapter.path)
        if file.is_file():
            found[name] = digest_of(file)
    return found


def digest_of(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
