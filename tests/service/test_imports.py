"""What the service's programs load when they start: whoever waits for one waits for its imports."""

from __future__ import annotations

import os
import subprocess
import sys

HEAVY = {"torch", "scipy.stats", "scipy.optimize", "pandas", "optuna", "ax", "cma", "ray"}
"""Together ten seconds and half a gigabyte. Deciders load those of a strategy when it first needs them."""
PROGRAMS = "import service.api, service.loops.deciders, service.loops.rounds"


def test_api_and_scheduler_start_without_the_heavy_libraries() -> None:
    code = f"import sys\n{PROGRAMS}\nprint(*sys.modules)"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, check=True, text=True
    )
    assert HEAVY.isdisjoint(done.stdout.split())
