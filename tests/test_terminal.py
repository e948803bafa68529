"""Progress on a terminal never ends the work that it tells of."""

from __future__ import annotations

import os
import subprocess
import sys

WORK = """
import sys
from sigma_framework.terminal import TerminalProgress

sys.stdin.readline()
progress = TerminalProgress()
progress.begin("training", 100)
for step in range(100):
    progress.advance(facts="loss 1.0")
    progress.note(f"step {step} " + 100 * "x")
progress.finish()
print("done", flush=True)
"""


def test_work_goes_on_when_nobody_reads_its_progress_any_more() -> None:
    """A pager that was left, a terminal that was closed: the write fails, and so would flushing at the end."""
    for opened in (os.pipe, os.openpty):
        reading, writing = opened()
        with subprocess.Popen(
            [sys.executable, "-c", WORK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=writing,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            text=True,
        ) as process:
            os.close(writing)
            os.close(reading)
            assert process.communicate("go\n", timeout=60)[0] == "done\n"
        assert process.returncode == 0
