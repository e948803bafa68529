"""Where measured tables go: between two marks of a page of the documentation."""

from __future__ import annotations

from pathlib import Path


def write_between(page: Path, marks: tuple[str, str], text: str) -> None:
    """Replaces what stands between the marks, which stay.

    Raises:
        ValueError: the page lacks one of them; it stays as it is.
    """
    before, rest = page.read_text(encoding="utf-8").split(marks[0], 1)
    _, after = rest.split(marks[1], 1)
    page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")
