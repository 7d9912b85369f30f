"""Runs a function or class made for Ray Tune, without Ray Tune's controller and unchanged::

    trainer: {module: trimtab.adapters.ray_tune, folder: ., args: ["my_tuning.py:train"]}

The trial's parameters are the ``config``; each ``tune.report`` is a step of the study, from 1, so the
study's ``fidelity`` is counted in reports (Ray Tune's ``training_iteration``). ``tune.get_checkpoint()`` is
the newest checkpoint that was reported: a trial that goes on begins there and reports the steps behind it
again. A class is driven through ``train()``, ``save()`` and ``restore()``.

Searchers, schedulers and stoppers of Ray Tune are not run: what they do, the study does.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ray.air.session
import ray.train
from ray import tune
from ray.tune.result import AUTO_RESULT_KEYS

import trimtab
from trimtab.adapters.metrics import numbers

_FILLED_IN = frozenset({*AUTO_RESULT_KEYS, "trial_id"})
"""What Ray Tune adds to the results of a class."""


class _EndedError(BaseException):
    """The trial was told to end. No ``Exception``, so that the function's own handlers let it pass."""


class Saved:
    """The newest checkpoint of a trial: ``ray_tune-STEP`` in Trimtab's checkpoint folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> tuple[int, Path] | None:
        """Its step and its folder."""
        found = [(int(path.name.partition("-")[2]), path) for path in self._folder.glob("ray_tune-*[0-9]")]
        return max(found, default=None)

    def write(self, step: int, fill: Callable[[Path], object]) -> None:
        """Have ``fill`` write into a new folder, and delete the older ones once it is whole."""
        part = self._folder / f"ray_tune-{step}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        fill(part)
        final = self._folder / f"ray_tune-{step}"
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        for path in self._folder.glob("ray_tune-*"):
            if path != final:
                shutil.rmtree(path)


class Session:
    """What ``tune.report`` and ``tune.get_checkpoint`` do in a function."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._loaded = saved.newest()
        self.step = self._loaded[0] if self._loaded else 0

    def report(self, metrics: Mapping[str, object], *, checkpoint: Any = None) -> None:
        """Record one step; does not return if the trial is told to end."""
        self.step += 1
        if checkpoint is not None:
            self._saved.write(self.step, checkpoint.to_directory)
        if _report(self.step, metrics):
            raise _EndedError

    def get_checkpoint(self) -> Any:
        """The checkpoint to go on from, or None."""
        return tune.Checkpoint.from_directory(str(self._loaded[1])) if self._loaded else None


def run(target: str) -> None:
    """Train what ``FILE.py:NAME`` or ``MODULE:NAME`` names to the end of the trial's run.

    :raises ValueError: there is no such function or class
    """
    saved = Saved(trimtab.checkpoint_dir())
    session = Session(saved)
    # Before the user's module is imported, which may take the functions by name.
    for module in (tune, ray.train, ray.air.session):
        for name in ("report", "get_checkpoint"):
            if hasattr(module, name):
                setattr(module, name, getattr(session, name))
    trainable = _find(target)
    config = trimtab.params()
    if inspect.isclass(trainable):
        _drive_class(trainable, config, saved)
        return
    try:
        returned = trainable(config)
        for result in returned if inspect.isgenerator(returned) else [returned]:
            if result is not None:
                session.report(result if isinstance(result, Mapping) else {"_metric": result})
    except _EndedError:
        return
    print(f"{target} ended by itself after {session.step} reports: the study's fidelity counts reports")


def _drive_class(trainable: type[Any], config: dict[str, Any], saved: Saved) -> None:
    trial = trainable(config=config)
    step = 0
    if loaded := saved.newest():
        step, folder = loaded
        trial.restore(str(folder))
        # restore() knows the iteration only of a result in memory.
        trial._iteration = step
    done = False
    while not done:
        result = trial.train()
        step += 1
        # Saved first: what is told to end must not lose the step that it has reported.
        ended = _report(step, result)
        if ended:
            saved.write(step, lambda part: trial.save(str(part)))
            break
        done = bool(result.get("done"))
    trial.stop()


def _report(step: int, metrics: Mapping[str, object]) -> bool:
    values = numbers(metrics, leave_out=_FILLED_IN)
    if not values:
        raise ValueError(f"report {step} holds no number that could be a metric: {dict(metrics)}")
    return trimtab.report(step, **values)


def _find(target: str) -> Any:
    place, _, name = target.rpartition(":")
    if not place:
        raise ValueError(f"say FILE.py:NAME or MODULE:NAME, not {target!r}")
    sys.path.insert(0, str(Path.cwd()))
    module = _load_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{place} holds no function or class {name}")
    return found


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path.absolute()}")
    sys.path.insert(0, str(path.absolute().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """``python -m trimtab.adapters.ray_tune FILE.py:NAME``"""
    if len(sys.argv) != 2:
        sys.exit("say what to train: python -m trimtab.adapters.ray_tune FILE.py:NAME")
    try:
        run(sys.argv[1])
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
