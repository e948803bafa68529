"""Where a run's numbers and pictures are shown besides its own files: TensorBoard, Weights & Biases, trackio."""

from __future__ import annotations

import importlib
import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sigma_framework.errors import RunError
from sigma_framework.types import RgbImage

PROJECT = "sigma-framework"
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}
"""What each needs; those beyond TensorBoard are extras of the same name."""


class Tracker(Protocol):
    """Shows numbers and pictures by step."""

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """Finite numbers of one step; a step that is done again comes again."""
        ...

    def add_picture(self, picture: RgbImage, step: int) -> None:
        """A grid of sample pictures, (H, W, 3) uint8."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


def require_trackers(names: Sequence[str]) -> None:
    """Tells before anything is loaded what is not installed.

    Raises:
        RunError: names it and the extra that brings it.
    """
    missing = [name for name in names if importlib.util.find_spec(PACKAGES[name]) is None]
    if missing:
        extras = ",".join(missing)
        raise RunError(
            f"train.loggers: {', '.join(missing)} not installed; pip install 'sigma-framework[{extras}]', or leave out "
            "of the list (metrics.csv is always written)"
        )


def open_tracker(name: str, folder: Path) -> Tracker:
    """One of ``PACKAGES`` for the run in ``folder``; a run that goes on is continued there too."""
    return TensorBoard(folder) if name == "tensorboard" else Board(name, folder)


class TensorBoard:
    """Event files in ``folder/tensorboard``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """All of a step as one event: each wakes the thread that writes."""
        from torch.utils.tensorboard.summary import scalar

        together, *others = [scalar(name, value) for name, value in numbers.items()]
        for other in others:
            together.MergeFrom(other)
        self._writer._get_file_writer().add_summary(together, step)

    def add_picture(self, picture: RgbImage, step: int) -> None:
        """Under ``grid``."""
        self._writer.add_image("grid", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and ends the thread."""
        self._writer.close()


class Board:
    """wandb or trackio, which share their calls; where they send what they get is their own setting.

    Args:
        package: its name.
        folder: the run folder; the run's name there is kept in it as ``<package>.id``.
    """

    def __init__(self, package: str, folder: Path) -> None:
        self._board: Any = importlib.import_module(package)
        self._numbered = package == "trackio"
        place = folder / f"{package}.id"
        if not place.exists():
            place.write_text(f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}\n", encoding="utf-8")
        name = place.read_text(encoding="utf-8").strip()
        more = {} if self._numbered else {"id": name, "dir": str(folder)}
        self._board.init(project=PROJECT, name=name, resume="allow", **more)
        if not self._numbered:  # its own steps may not go back, those of a resumed run do
            self._board.define_metric("*", step_metric="step")

    def add(self, numbers: Mapping[str, float], step: int) -> None:
        """One call per step."""
        self._log(dict(numbers), step)

    def add_picture(self, picture: RgbImage, step: int) -> None:
        """Under ``grid``."""
        self._log({"grid": self._board.Image(picture)}, step)

    def close(self) -> None:
        """Ends the run there, so that all is sent."""
        self._board.finish()

    def _log(self, values: dict[str, Any], step: int) -> None:
        if self._numbered:
            self._board.log(values, step=step)
        else:
            self._board.log({**values, "step": step})
