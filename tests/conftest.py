"""For all tests: numerical libraries get one thread each, as in workers' processes; sockets a folder."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Before any is imported, here or in a child: small matrices take many times as long on many threads.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# A login makes one; in a container there is none, which PostgreSQL's package would complain of.
if "XDG_RUNTIME_DIR" not in os.environ and not Path(f"/run/user/{os.getuid()}").is_dir():
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="trimtab-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_RUNTIME_DIR"], ignore_errors=True)
