"""Signals that ask a run to stop, and the scheduler that starts it again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

LISTENED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Ctrl-C, a scheduler's end, a scheduler's warning before it, a terminal that was closed."""


def listen(stop: Callable[[int], None]) -> Callable[[], None]:
    """Has the signals call ``stop`` with their number; returns what puts the earlier handlers back.

    One that is ignored stays so: ``nohup`` and shells that start jobs in the background mean it.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    heard = [number for number in LISTENED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda got, _: stop(got)) for number in heard}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore


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
