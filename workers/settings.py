"""The dispatcher's settings, read once from the environment."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """A setting cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a dispatcher finds the service, its Ray cluster and the place for checkpoints."""

    home: Path
    """Folder of the installation (``TRIMTAB_HOME``, default ``.trimtab`` in the current folder)."""
    url: str
    """Address of the service (``TRIMTAB_URL``)."""
    token: str | None
    """Sent with every call when the service asks for one (``TRIMTAB_TOKEN``)."""
    checkpoints: str
    """fsspec URL of the folder for checkpoints (``TRIMTAB_CHECKPOINTS``, default ``HOME/checkpoints``)."""
    ray_address: str | None
    """An existing Ray cluster (``TRIMTAB_RAY_ADDRESS``); None: start a local one."""
    cpus: int | None
    """CPUs of the local cluster (``TRIMTAB_CPUS``); None: all that this process may use."""
    worker: str
    """The dispatcher's name (``TRIMTAB_WORKER``, default the host's name)."""

    @staticmethod
    def read(environment: Mapping[str, str]) -> WorkerSettings:
        """Empty values count as unset. Raises :class:`SettingsError`."""
        given = {name: value for name, value in environment.items() if value}
        home = Path(given.get("TRIMTAB_HOME", ".trimtab")).absolute()
        return WorkerSettings(
            home=home,
            url=given.get("TRIMTAB_URL", "http://127.0.0.1:8787").rstrip("/"),
            token=given.get("TRIMTAB_TOKEN"),
            checkpoints=given.get("TRIMTAB_CHECKPOINTS", str(home / "checkpoints")),
            ray_address=given.get("TRIMTAB_RAY_ADDRESS"),
            cpus=_cpus(given["TRIMTAB_CPUS"]) if "TRIMTAB_CPUS" in given else None,
            worker=given.get("TRIMTAB_WORKER", socket.gethostname()),
        )


def _cpus(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise SettingsError(f"TRIMTAB_CPUS must be a whole number from 1, not {text!r}")
    return int(text)
