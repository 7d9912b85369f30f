"""Whose scripts may run: a capability that the operator of a server on the network switches on."""

from __future__ import annotations

import os
from pathlib import Path

from service.errors import ForbiddenError
from service.settings import Settings
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import TrainerSpec

VARIABLE = "TRIMTAB_ALLOW_SCRIPTS"


def check(trainer: TrainerSpec, settings: Settings) -> None:
    """Refuse a script, module, folder or interpreter that lies outside the allowed folders.

    Paths are compared as they really are: links and ``..`` are followed first. An interpreter's own last
    link is not, since a virtual environment's ``python`` always leads out of it.

    Raises:
        ForbiddenError: naming each field and the variable to set.
    """
    if trainer.name is not None or (settings.loopback and settings.allow_scripts is None):
        return
    field = "script" if trainer.script is not None else "module"
    if settings.allow_scripts is None:
        raise ForbiddenError(
            f"This server runs its built-in trainers only. Its operator can allow scripts: set {VARIABLE} "
            f"to the folders (separated by {os.pathsep!r}) that they may lie in.",
            [FieldProblem(pointer=f"/trainer/{field}", message="scripts and modules are not allowed here")],
        )
    allowed = [folder.resolve() for folder in settings.allow_scripts]
    problems = [
        FieldProblem(
            pointer=f"/trainer/{name}",
            message=f"{path} does not lie in a folder that this server allows",
            suggestion=f"name an absolute path in a folder of {VARIABLE}, or have the operator add one",
        )
        for name, path, real in _places(trainer)
        if not path.is_absolute() or not any(real.is_relative_to(folder) for folder in allowed)
    ]
    if problems:
        raise ForbiddenError("The study would run code from a place that is not allowed here.", problems)


def _places(trainer: TrainerSpec) -> list[tuple[str, Path, Path]]:
    """The fields that say what runs: name, path as given, path as it really is."""
    places = []
    folder = Path(trainer.folder) if trainer.folder is not None else None
    if folder is not None:
        places.append(("folder", folder, folder.resolve()))
    if trainer.script is not None:
        places.append(("script", Path(trainer.script), Path(trainer.script).resolve()))
    if trainer.module is not None and folder is not None:
        places.append(("module", *_module(folder, trainer.module)))
    if trainer.python is not None:
        python = Path(trainer.python)
        places.append(("python", python, python.parent.resolve() / python.name))
    return places


def _module(folder: Path, module: str) -> tuple[Path, Path]:
    """The module's file. One that is not in the folder would be found elsewhere: it counts as outside."""
    base = folder.joinpath(*module.split("."))
    for file in (base.with_suffix(".py"), base / "__main__.py"):
        if file.is_file():
            return file, file.resolve()
    return Path(module), Path(module)
