"""How long work tells how far it is. The core reports; only the command line shows."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of one piece of work after another."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A piece of work of ``total`` steps begins, ``done`` of them already done."""
        ...

    def advance(self, steps: int = 1, facts: str = "") -> None:
        """``steps`` more are done; ``facts`` is short text such as the present loss."""
        ...

    def finish(self) -> None:
        """The piece of work is over, or given up."""
        ...

    def note(self, text: str) -> None:
        """A line people should see: a warning, a result, where something was written."""
        ...


class Silent:
    """Shows nothing: the default of the Python interface."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Nothing."""

    def advance(self, steps: int = 1, facts: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 pair``, ``2 pairs``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
