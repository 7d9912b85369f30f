"""A user's script that breaks in the way it is asked to."""

import ctypes
import os
import sys
import time
from pathlib import Path

import trimtab

mode = trimtab.params(mode="raise")["mode"]
for step in (1, 2, 3):
    trimtab.report(step, loss=1.0 / step)
print("about to break")
if mode == "raise":
    raise ValueError("the data is gone")
if mode == "memory":
    raise MemoryError
if mode == "segfault":
    ctypes.string_at(0)
if mode == "early":
    sys.exit(0)
if mode == "garbage":
    time.sleep(0.1)
    with (Path(os.environ["TRIMTAB_RUN_DIR"]) / "reports.jsonl").open("a") as reports:
        reports.write('{"step": 4, "metr')
        reports.flush()
        time.sleep(0.1)
        reports.write("\n")
time.sleep(100)
