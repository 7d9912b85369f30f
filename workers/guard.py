"""Runs a command and takes all its processes down when it ends, or when whoever started the guard dies.

``python guard.py COMMAND ...`` with a pipe as standard input: the pipe ends when the process that holds its
other end closes it or is gone, by whatever death. Run by path, standard library only, in a process group of
its own. The guard exits as the command does: with its code, or by the same signal.

The pipe is watched by a process of its own, since Ray kills the children of a dying worker, but not theirs.
A process that has left the group (a daemon, a session of its own) stays a descendant: on Linux the guard
adopts those whose parent dies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GONE_SECONDS = 5.0
"""A killed process that cannot die yet (it waits for a device) is waited for so long."""


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)
    # A polite end of the group is the command's to answer; the guard waits for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    guard = os.getpid()
    watcher = os.fork()
    if watcher == 0:
        while os.read(0, 1):
            pass
        _kill_descendants(guard, spared=os.getpid())
        os.killpg(0, signal.SIGKILL)
    code = command.wait()
    _kill_descendants(guard, spared=watcher)
    if code < 0 and -code != signal.SIGTERM:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _kill_descendants(root: int, *, spared: int) -> None:
    """Kill until none is left: one that is being made while the others are looked up is found next time."""
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        found = [pid for pid in _descendants(root) if pid != spared]
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)


def _descendants(root: int) -> list[int]:
    """The living processes below ``root``; none where there is no /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(parent), state)
    found = [root]
    for pid in found:
        found += [child for child, (parent, _) in parents.items() if parent == pid]
    return [pid for pid in found[1:] if parents[pid][1] not in "ZX"]


if __name__ == "__main__":
    main()
