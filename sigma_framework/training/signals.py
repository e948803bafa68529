"""Signals that ask a run to stop, and the scheduler that starts it again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

LISTENED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, a scheduler's end, a scheduler's warning before it."""


def listen(stop: Callable[[int], None]) -> Callable[[], None]:
    """Has the signals call ``stop`` with their number; returns what puts the earlier handlers back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.signal(number, lambda got, _: stop(got)) for number in LISTENED}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


def leave_to_parent(_worker: int) -> None:
    """In a process that loads data: the parent hears the signals and ends its workers itself.

    Ctrl-C and a scheduler's signals reach the whole process group. A worker that died of them would be an error
    in the parent, which still needs its data to finish the step. The second SIGTERM is the parent's own.
    """

    def first_term(number: int, _: object) -> None:
        signal.signal(number, lambda *_: os._exit(0))

    for number in LISTENED:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, first_term)


def requeue(environment: Mapping[str, str] = os.environ) -> str:
    """Asks SLURM to start this job again after its warning signal; says what came of it, empty outside of SLURM."""
    job = environment.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '')}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return ""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"job {job} could not be requeued: scontrol: {error.strerror}"
    return (
        f"job {job} is requeued" if done.returncode == 0 else f"job {job} could not be requeued: {done.stderr.strip()}"
    )
