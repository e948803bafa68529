"""What holds for all tests: signals reach them, however they were started."""

from __future__ import annotations

import signal
import threading

import pytest

from sigma_framework.progress import Silent


def pytest_configure(config: pytest.Config) -> None:
    """Takes back what a shell ignores for jobs in the background: the framework and children keep to it."""
    if threading.current_thread() is not threading.main_thread():
        return  # only there may handlers be set; pytest-xdist may run its workers' tests in another
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # not SIGHUP: nohup is meant for the tests, too
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class NoteKeeper(Silent):
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """As a run tells it."""
        self.notes.append(text)


@pytest.fixture
def note_keeper() -> NoteKeeper:
    """Progress that keeps what it is told, in ``notes``."""
    return NoteKeeper()
