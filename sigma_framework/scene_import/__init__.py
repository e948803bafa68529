"""Layouts of the field's benchmarks as scene documents; the formats are told in ``docs/importing.md``."""

from sigma_framework.scene_import.formats import FORMATS
from sigma_framework.scene_import.writing import ImportReport, import_scenes

__all__ = ["FORMATS", "ImportReport", "import_scenes"]
