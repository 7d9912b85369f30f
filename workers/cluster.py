"""Starts or joins Ray, quietly, and says what it has."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from trimtab.wire.work import Capacity
from workers.settings import WorkerSettings

# Read by Ray at its first import: it is to call nobody and to say nothing in our terminal.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Nearly Ray's least: only small messages pass through it."""

_NOT_CUSTOM = re.compile(r"^(CPU|GPU|memory|object_store_memory|node:.*|accelerator_type:.*)$")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The resources of a Ray cluster."""

    total: Capacity
    nodes: tuple[Capacity, ...]


def start(settings: WorkerSettings) -> Path | None:
    """Join the cluster at ``settings.ray_address``, or start a local one with this machine's CPUs and GPUs.

    Returns the folder of the local one, to be given to :func:`stop`. A local Ray dies with this process,
    whatever ends it. Raises Ray's ``ConnectionError`` if the cluster cannot be joined.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if settings.ray_address is not None:
        ray.init(address=settings.ray_address, **common)
        return None
    # Nobody else is to run code on it: a secret of its own, which also spares Ray writing one to the home.
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = _local_folder(settings.home)
    _remove_sessions_of_the_dead(folder)
    ray.init(
        address="local",
        num_cpus=settings.cpus if settings.cpus is not None else len(os.sched_getaffinity(0)),
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=str(folder),
        **common,
    )
    return folder


def stop(folder: Path | None) -> None:
    """Leave the cluster; a local one is stopped and its files are deleted."""
    ray.shutdown()
    if folder is not None:
        _remove_sessions_of_the_dead(folder)


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


def _local_folder(home: Path) -> Path:
    """A short path (a Unix socket's may have 107 characters), the same at each start from ``home``."""
    digest = hashlib.sha256(str(home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"trimtab-ray-{digest}"


def _remove_sessions_of_the_dead(folder: Path) -> None:
    """Ray leaves the logs of every start behind; a session's name ends with the starter's process id."""
    for session in folder.glob("session_*"):
        pid = session.name.rpartition("_")[2]
        if pid.isdecimal() and not (psutil.pid_exists(int(pid)) and int(pid) != os.getpid()):
            shutil.rmtree(session, ignore_errors=True)
