"""A user's script that ignores everybody, with a child that does too."""

import signal
import subprocess
import sys
import time

import trimtab

signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)  # child of stubborn.py"])
trimtab.report(1, loss=1.0)
while True:
    time.sleep(1)
