"""A user's script that leaves a child in a session of its own behind, and ends as it is asked to."""

import subprocess
import sys

import trimtab

seconds = trimtab.params(seconds=1000)["seconds"]
child = f"import time; time.sleep({seconds})  # child of daemon.py"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
step = 0
while not trimtab.report(step := step + 1, loss=1.0 / step):
    if trimtab.params(crash=False)["crash"]:
        raise SystemExit(3)
