"""Where actors keep temporary files: one folder per actor, so that none outlive it for long.

An actor that is killed leaves its files behind, in ``TEMP/trimtab-scratch-DIGEST/INCARNATION/ACTOR`` on its
machine. The next actor of the dispatcher there clears them: those of an earlier incarnation, and those of
an actor that no longer holds the lock in its folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workers.settings import WorkerSettings

LOCK = "lock"


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder of one incarnation, by its path below the machine's folder for temporary files."""

    dispatcher: str
    incarnation: str

    @staticmethod
    def of(settings: WorkerSettings, incarnation: str) -> Scratch:
        """Dispatchers of the same name and home are incarnations of one."""
        name = f"{settings.home}\n{settings.worker}"
        digest = hashlib.sha256(name.encode()).hexdigest()[:10]
        return Scratch(f"trimtab-scratch-{digest}", incarnation)

    def use(self) -> None:
        """Clear what the dead left, and let all temporary files of this process go here.

        Once per process.
        """
        parent = Path(tempfile.gettempdir()) / self.dispatcher
        incarnation = parent / self.incarnation
        incarnation.mkdir(mode=0o700, parents=True, exist_ok=True)
        for earlier in parent.iterdir():
            if earlier != incarnation:
                shutil.rmtree(earlier, ignore_errors=True)
        # One at a time: a folder that is just being made has no holder yet.
        with (incarnation / "gate").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for lock in incarnation.glob(f"*/{LOCK}"):
                if not _is_held(lock):
                    shutil.rmtree(lock.parent, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=incarnation, prefix="actor-"))
            _hold(folder / LOCK)
        tempfile.tempdir = str(folder)

    def remove(self) -> None:
        """Delete the folder on this machine; its actors must have ended."""
        parent = Path(tempfile.gettempdir()) / self.dispatcher
        shutil.rmtree(parent / self.incarnation, ignore_errors=True)
        # Not gone if there never was an actor, or if the next incarnation is there already.
        with contextlib.suppress(OSError):
            parent.rmdir()


def _hold(lock: Path) -> None:
    """Until this process ends, however it does: the kernel lets go."""
    fcntl.flock(os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), fcntl.LOCK_EX)


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
