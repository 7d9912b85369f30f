"""Runs a command and takes its whole process group down when whoever started the guard dies.

``python guard.py COMMAND ...`` with a pipe as standard input: the pipe ends when the process that holds its
other end is gone, by whatever death. Run by path, standard library only, in a process group of its own.
The guard exits as the command does: with its code, or by the same signal.

The pipe is watched by a process of its own, since Ray kills the children of a dying worker, but not theirs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> None:
    try:
        command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)
    # A polite end of the group is the command's to answer; the guard waits for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)
    code = command.wait()
    if code < 0 and -code != signal.SIGTERM:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
