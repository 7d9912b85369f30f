"""Starts or joins Ray, quietly, and says what it has."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trimtab.wire.work import Capacity
from workers.settings import WorkerSettings

# Read by Ray when it is imported: it is to call nobody.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# And to hide the GPUs from actors that asked for none.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")

import ray

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Nearly Ray's least: only small messages pass through it."""

_NOT_CUSTOM = re.compile(r"^(CPU|GPU|memory|object_store_memory|node:.*|accelerator_type:.*)$")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The resources of a Ray cluster."""

    total: Capacity
    nodes: tuple[Capacity, ...]


@contextmanager
def connected(settings: WorkerSettings) -> Iterator[None]:
    """Join the cluster at ``settings.ray_address``, or run a local one with this machine's CPUs and GPUs.

    A local one dies with this process, whatever ends it. Raises ``ConnectionError`` if the cluster cannot
    be joined.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if settings.ray_address is not None:
        ray.init(address=settings.ray_address, **common)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Nobody else is to run code on it: a secret of its own, which also spares Ray writing one to the home.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = local_folder(settings.home)
    _remove_sessions_of_the_dead(folder)
    try:
        with _reaped(folder):
            try:
                ray.init(
                    address="local",
                    num_cpus=settings.cpus if settings.cpus is not None else len(os.sched_getaffinity(0)),
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=str(folder),
                    **common,
                )
                yield
            finally:
                _end_autoscaler()
                ray.shutdown()
    finally:
        _remove_session(folder)


def measure() -> Cluster:
    """What the cluster's living nodes have; nodes may come and go."""
    nodes = tuple(_capacity(node["Resources"]) for node in _nodes() if node["Alive"])
    custom = {name for node in nodes for name in node.custom}
    return Cluster(
        total=Capacity(
            cpus=sum(node.cpus for node in nodes),
            gpus=sum(node.gpus for node in nodes),
            custom={name: sum(node.custom.get(name, 0.0) for node in nodes) for name in custom},
        ),
        nodes=nodes,
    )


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return nodes


def _capacity(resources: dict[str, float]) -> Capacity:
    return Capacity(
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        custom={name: amount for name, amount in resources.items() if not _NOT_CUSTOM.match(name)},
    )


@contextmanager
def _reaped(folder: Path) -> Iterator[None]:
    """A Ray with its files in ``folder`` does not outlive this process or the block."""
    # Of its own session: what ends the dispatcher's process group must not end the reaper first.
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.reaper", str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.communicate()


def _end_autoscaler() -> None:
    """Kill the autoscaler of the local Ray: it is deaf to SIGTERM, and Ray would wait a second for it."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any(re.search(r"/autoscaler/.*monitor\.py$", word) for word in child.cmdline()):
                child.kill()


def local_folder(home: Path) -> Path:
    """A short path (a Unix socket's may have 107 characters), the same at each start from ``home``."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"trimtab-ray-{digest}"


def _remove_session(folder: Path) -> None:
    """Delete the sockets and logs of this process's Ray, and the folder if nobody else's are in it."""
    for session in folder.glob(f"session_*_{os.getpid()}"):
        shutil.rmtree(session, ignore_errors=True)
    latest = folder / "session_latest"
    if not latest.exists():
        latest.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _remove_sessions_of_the_dead(folder: Path) -> None:
    """What a killed dispatcher could not tidy up; a session's name ends with its starter's process id."""
    for session in folder.glob("session_*"):
        pid = session.name.rpartition("_")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(session, ignore_errors=True)
