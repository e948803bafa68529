"""The most memory that a piece of work took."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MEBIBYTE = 2**20


class PeakMemory:
    """Peak since the last ``reset``: of the accelerator where there is one, else of the process.

    Where the system cannot forget an earlier peak, a process's peak never falls.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def what(self) -> str:
        """What is measured."""
        return "accelerator" if self._device.type == "cuda" else "process"

    def reset(self) -> None:
        """Forgets earlier peaks where that is possible."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            _RESET.write_text("5")  # Linux: VmHWM starts again from what is in use now (proc(5))
        except OSError:
            return

    def mebibytes(self) -> float:
        """The peak."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / MEBIBYTE
        try:
            text = _STATUS.read_text(encoding="utf-8")
        except OSError:
            return _largest_ever()
        return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("VmHWM:")), 0.0)


def _largest_ever() -> float:
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MEBIBYTE
