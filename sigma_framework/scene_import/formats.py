"""The formats by name: how their input is opened, and what they do not say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_framework.errors import DataError
from sigma_framework.scene_import.box_lists import read_lamicbench, read_segment_info
from sigma_framework.scene_import.coco import read_coco
from sigma_framework.scene_import.flux3 import read_flux3
from sigma_framework.scene_import.msbench import read_msbench
from sigma_framework.scene_import.records import Findings, Layout
from sigma_framework.scene_import.xversebench import read_xversebench

Reader = Callable[[Path, Findings], Iterator[Layout]]


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format."""

    read: Reader
    """Gives the layouts of a path, and notes what is wrong."""
    size: tuple[int, int]
    """Width and height where the input says none: what the benchmark's own scripts use."""
    below: str = ""
    """Folder of the pictures, below the folder that is searched for them."""


def _of_json(read: Callable[[Any, Findings], Iterator[Layout]]) -> Reader:
    def open_and_read(path: Path, found: Findings) -> Iterator[Layout]:
        try:
            data = json.loads(path.read_bytes())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: is not JSON ({str(error)[:80]})") from None
        return read(data, found)

    return open_and_read


FORMATS = {
    "coco": Format(read=_of_json(read_coco), size=(512, 512)),
    "contextgen": Format(read=_of_json(read_segment_info), size=(768, 768)),
    "flux3": Format(read=_of_json(read_flux3), size=(1024, 1024)),
    "lamicbench": Format(read=_of_json(read_lamicbench), size=(768, 768), below="reference_images"),
    "msbench": Format(read=read_msbench, size=(1024, 1024)),
    "xversebench": Format(read=_of_json(read_xversebench), size=(768, 768)),
}
"""By the name that ``sigma-data import`` takes."""
