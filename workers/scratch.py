"""Where actors keep temporary files: one folder per dispatcher, so that none outlive it for long.

An actor that is killed leaves its files behind. They lie in ``TEMP/trimtab-scratch-DIGEST/INCARNATION`` on
its machine, and the first actor of the dispatcher's next incarnation there clears the earlier ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from workers.settings import WorkerSettings


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
        """Clear what earlier incarnations left, and let all temporary files of this process go here."""
        parent = Path(tempfile.gettempdir()) / self.dispatcher
        folder = parent / self.incarnation
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for earlier in parent.iterdir():
            if earlier != folder:
                shutil.rmtree(earlier, ignore_errors=True)
        tempfile.tempdir = str(folder)

    def remove(self) -> None:
        """Delete the folder on this machine; its actors must have ended."""
        parent = Path(tempfile.gettempdir()) / self.dispatcher
        shutil.rmtree(parent / self.incarnation, ignore_errors=True)
        # Not gone if there never was an actor, or if the next incarnation is there already.
        with contextlib.suppress(OSError):
            parent.rmdir()
