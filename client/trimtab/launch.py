"""Runs one program of a local server: ``python -m trimtab.launch SUPERVISOR_PID MODULE``.

On Linux the program is told to stop (SIGTERM) when its supervisor dies, however that dies.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGTERM when the parent thread ends; exit if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the supervisor is gone")


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none is lost sight of (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    program = sys.argv[2]
    sys.argv = [program]
    runpy.run_module(program, run_name="__main__", alter_sys=True)
