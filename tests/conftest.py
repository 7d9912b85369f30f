"""For all tests: numerical libraries get one thread each, as in workers' processes; trainings are no
nicer than tests; sockets get a folder."""

from __future__ import annotations

import os

import pytest

from bench.stack import ensure_runtime_folder

# Before any is imported, here or in a child: small matrices take many times as long on many threads.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# Tests wait for trainings, which Ray would have stand back (nice 15) behind all that other tests compute.
os.environ.setdefault("RAY_worker_niceness", "0")

ensure_runtime_folder()

WAITING = ("e2e", "workers")
"""Rooms whose tests wait more than they compute, in files of minutes: they come first, so that none of them
is left to one process at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of rooms."""
    items.sort(key=lambda item: item.path.parent.name not in WAITING)
