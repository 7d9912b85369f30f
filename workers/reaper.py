"""Ends what is left of a local Ray when the dispatcher that started it is gone, by whatever death.

``python -m workers.reaper FOLDER PID`` with a pipe from the dispatcher as standard input. When it ends,
every process that has a file open in Ray's session of dispatcher ``PID`` below ``FOLDER`` is killed; every
process of Ray writes a log there. Most die with their starter, but the agents get stuck on the way out.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import psutil

QUIET_SECONDS = 0.5
"""Done when nothing has been seen for so long: a dying process may just have started another."""


def members(folder: Path, pid: int) -> list[psutil.Process]:
    """The living processes of the session, without its dispatcher."""
    inside = re.compile(rf"{re.escape(str(folder))}/session_[^/]*_{pid}/")
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != pid and any(inside.match(file.path) for file in process.open_files()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def reap(folder: Path, pid: int) -> None:
    """Kill the session's processes until there are none."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_SECONDS:
        for process in members(folder, pid):
            quiet_since = time.monotonic()
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        time.sleep(0.05)


def main() -> None:
    while os.read(0, 1):
        pass
    reap(Path(sys.argv[1]), int(sys.argv[2]))


if __name__ == "__main__":
    main()
