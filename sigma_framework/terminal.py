"""Progress on a terminal: one live line there, plain lines now and then in a log file."""

from __future__ import annotations

import os
import sys
import time
from typing import IO, Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LOG_SECONDS = 15.0
"""Seconds between two lines where there is no terminal."""


class LastingStream:
    """A text stream that goes quiet when its other end is gone, so that a closed terminal ends no work.

    Args:
        stream: of an open file.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes, or throws away."""
        try:
            return self._stream.write(text)
        except OSError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        """Flushes, or throws away."""
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        """What is buffered goes nowhere too: at its end Python would complain about it with an exit code of its own."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TerminalProgress:
    """Shows the core's progress on standard error, so that standard output holds results alone."""

    def __init__(self) -> None:
        self._console = Console(file=cast(IO[str], LastingStream(sys.stderr)), highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._what, self._total, self._done, self._last = "", 0, 0, 0.0

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A piece of work begins."""
        self.finish()
        self._what, self._total, self._done, self._last = what, total, done, time.monotonic()
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[facts]}"), console=self._console, transient=True)
            self._task = self._bar.add_task(what, total=total, completed=done, facts="")
            self._bar.start()

    def advance(self, steps: int = 1, facts: str = "") -> None:
        """``steps`` more are done."""
        self._done += steps
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, facts=facts)
        elif time.monotonic() - self._last >= _LOG_SECONDS:
            self._last = time.monotonic()
            self.note(f"{self._what}: {self._done} of {self._total} {facts}".rstrip())

    def finish(self) -> None:
        """The piece of work is over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        """A line of its own."""
        self._console.print(text, markup=False, soft_wrap=True)
