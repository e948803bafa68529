"""The result of a run, and the mark that it is whole: a run that was killed while writing it writes it again."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError

from sigma_framework.errors import RunError
from sigma_framework.learning_curve import write_learning_curve
from sigma_framework.training.durable_file import Sink, write_durably
from sigma_framework.training.training_run import TrainingRun

MARK = "finished.json"
"""In the run folder: after how many steps the result was written, last of all files."""


def save_result(run: TrainingRun, steps: int) -> None:
    """Writes the weights, how they were learned, and then the mark.

    Raises:
        RunError: they could not be written; the last checkpoint has them, so that running again does.
    """
    mark = run.folder / MARK
    try:
        mark.unlink(missing_ok=True)  # what lies there may be of fewer steps, and is about to be written over
        run.objective.save(run.weights_folder)
        write_learning_curve(run.folder / "metrics.csv", run.weights_folder)
        told = json.dumps({"steps": steps, "result": run.weights_folder.name})
        write_durably(mark, lambda sink: _write(sink, told))
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{run.weights_folder}: the result could not be written ({getattr(error, 'strerror', None) or error}); the "
            f"last checkpoint is intact, mend this and go on with: {run.resume_line}"
        ) from error


def _write(sink: Sink, text: str) -> None:
    sink.write(text.encode())


def result_is_whole(folder: Path, weights: Path, steps: int) -> bool:
    """Whether the run in ``folder`` wrote the weights of ``steps`` steps, or more, to the end."""
    try:
        told = json.loads((folder / MARK).read_bytes())
        return weights.is_dir() and told["result"] == weights.name and int(told["steps"]) >= steps
    except (OSError, ValueError, KeyError, TypeError):
        return False
