"""How good an image looks, without a reference, by MUSIQ (Ke et al. 2021)."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sigma_framework import Result, Scene, WeightsError
from sigma_metrics.field.config import MusiqConfig
from sigma_metrics.field.musiq_model import LONGER_SIDES, MusiqModel, read_musiq
from sigma_metrics.field.pretrained import choose_device
from sigma_metrics.field.quality import import_pyiqa, pyiqa_facts, pyiqa_scores

CHECKPOINTS = "https://storage.googleapis.com/gresearch/musiq/"
"""Of the authors, Apache-2.0: ``<variant>_ckpt.npz``."""
_OF_PYIQA = {"koniq": "musiq", "spaq": "musiq-spaq", "paq2piq": "musiq-paq2piq", "ava": "musiq-ava"}


class Musiq:
    """The score of an image at its own size; the plain name is the authors' checkpoint of KonIQ-10k."""

    def __init__(self, config: MusiqConfig) -> None:
        self._config = config
        self._values: list[float] = []
        self._file: Path | None = None
        if config.implementation == "pyiqa":
            import_pyiqa("musiq")
        else:
            self._file = find_checkpoint(config)

    def update(self, result: Result, scene: Scene, target: np.ndarray | None) -> None:
        """One value per image."""
        if self._file is None:
            self._values += pyiqa_scores(
                _OF_PYIQA[self._config.variant], self._config.weights, self._config.device, result
            )
            return
        model = _loaded(self._file, choose_device(self._config.device))
        self._values += [model.score(np.asarray(image.convert("RGB"))) for image in result.images]

    def compute(self) -> Mapping[str, Sequence[float]]:
        """Higher is better; ``koniq``, ``spaq`` and ``paq2piq`` 0 to 100, ``ava`` 1 to 10."""
        own = self._config.implementation == "checkpoint" and self._config.weights
        label = Path(own).stem if own and Path(own).name != _file_of(self._config.variant) else ""
        parts = ["pyiqa" if self._config.implementation == "pyiqa" else label]
        parts += [self._config.variant if self._config.variant != "koniq" else ""]
        said = ", ".join(part for part in parts if part)
        return {f"musiq[{said}]" if said else "musiq": tuple(self._values)}

    def facts(self) -> Mapping[str, Any]:
        """What the number was made with."""
        if self._file is None:
            return pyiqa_facts(_OF_PYIQA[self._config.variant])
        return {
            "weights": self._file.name,
            "model": "MUSIQ of the authors' checkpoint",
            "preprocessing": f"Gaussian without smoothing to {' and '.join(map(str, LONGER_SIDES))} pixels, own size; "
            f"NumPy {np.__version__}, torch {torch.__version__}",
        }


def find_checkpoint(config: MusiqConfig) -> Path:
    """The file, fetched to torch's folder of checkpoints unless it is there.

    Raises:
        WeightsError: no such file, or it cannot be had.
    """
    if config.weights is not None:
        file = Path(config.weights).expanduser()
        if not file.is_file():
            raise WeightsError(
                f"musiq: {config.weights}: no such file; expected a checkpoint of MUSIQ's authors, "
                f"e.g. {_file_of(config.variant)} from {CHECKPOINTS}"
            )
        return file
    name = _file_of(config.variant)
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"musiq_{name}"
    if not file.is_file():
        _fetch(CHECKPOINTS + name, file)
    return file


def _fetch(address: str, file: Path) -> None:
    """All of it or nothing; respects the hub's switch to stay offline."""
    from huggingface_hub import constants

    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(address, str(file), progress=False)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"musiq: {address} is not on this machine and could not be downloaded ({error}); go online, copy it to "
            f"{file}, name a local copy with the option weights of its block under metrics, or leave the measure out "
            "(metrics.<name>=null)"
        ) from error


@functools.lru_cache(maxsize=2)
def _loaded(file: Path, device: str) -> MusiqModel:
    return MusiqModel(read_musiq(file), torch.device(device))


def _file_of(variant: str) -> str:
    return f"{variant}_ckpt.npz"
