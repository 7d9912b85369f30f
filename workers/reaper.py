"""Ends what is left of a local Ray when the dispatcher that started it is gone, by whatever death.

``python -m workers.reaper MARK`` with a pipe from the dispatcher as standard input. When it ends, every
process whose environment holds ``TRIMTAB_RAY_MARK=MARK`` is killed. Ray's own processes mostly die with
their starter, but its agents get stuck on the way out.
"""

from __future__ import annotations

import os
import sys
import time

import psutil

VARIABLE = "TRIMTAB_RAY_MARK"
QUIET_SECONDS = 0.5
"""Done when nothing marked has been seen for so long: a dying process may just have started another."""


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that carry the mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def reap(mark: str) -> None:
    """Kill what carries the mark until nothing does."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        for process in marked(mark):
            quiet_since = time.monotonic()
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)


def main() -> None:
    while os.read(0, 1):
        pass
    reap(sys.argv[1])


if __name__ == "__main__":
    main()
