"""What can go wrong, said so that a user can mend it: where, what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a user's input."""

    where: str
    """Key path or file part, e.g. ``train.lrr`` or ``subjects[2].control.xyxy``; empty for the whole file."""
    what: str
    """What was found and what was expected, e.g. ``found "many", expected a whole number``."""
    remedy: str = ""
    """What to do about it; may be empty when ``what`` says it all."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.remedy}" if self.remedy else text


class SigmaError(Exception):
    """Base of every error that is the user's to mend; the command line prints it without a traceback.

    Attributes:
        message: one line that names the file or the thing at fault.
        problems: everything that is wrong, found in one pass.
    """

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.message = message
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(self.render())

    def render(self) -> str:
        """The message, then one indented line per problem."""
        if not self.problems:
            return self.message
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = [f"{self.message}: {count}", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines)


class RecipeError(SigmaError):
    """A recipe cannot be read, merged, checked or built."""


class SceneError(SigmaError):
    """A scene document, or a file that it names, cannot be used."""


class PluginError(SigmaError):
    """A plugin is broken, missing, switched off, or two plugins claim one name."""


class WeightsError(SigmaError):
    """Model or adapter weights are missing, damaged or made for something else."""


class DataError(SigmaError):
    """A data source cannot deliver what was asked of it."""


class RunError(SigmaError):
    """A run folder holds something else than what was asked for, or the run cannot go on."""


class RunInterrupted(SigmaError):
    """A signal stopped the run after its checkpoint was written; the message says how to go on."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
        """What the process exits with: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1, 129 for SIGHUP."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """``did you mean 'lr'?`` for the closest known name, or an empty string when none is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names in a stable order for a message: ``box2d, box3d, depth``; ``none`` when there is none."""
    ordered: Sequence[str] = sorted(names)
    return ", ".join(ordered) if ordered else "none"
