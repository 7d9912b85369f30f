"""The calls of a training script. Without a worker they work too, so the script also runs alone.

Standard library only: importing this costs a training script nothing.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from trimtab import run_folder
from trimtab.run_folder import ParamValue


def params(**defaults: ParamValue) -> dict[str, ParamValue]:
    """The values to train with: ``defaults``, overridden by what the study asks for.

    Example::

        config = trimtab.params(lr=1e-3, width=64)
    """
    folder = _folder()
    if folder is None:
        return dict(defaults)
    given = _assignment(folder).params
    return {**defaults, **{name: _like(defaults.get(name), value) for name, value in given.items()}}


def report(step: int, **metrics: float) -> bool:
    """Record metrics measured at ``step`` (from 1). True: save into ``checkpoint_dir()`` and exit now.

    A metric may be NaN or infinite; that is recorded as a divergence. Call it from one process only
    when training is distributed.
    """
    made = run_folder.make_report(step, metrics)
    folder = _folder()
    if folder is None:
        print(
            f"step {made.step}  " + "  ".join(f"{n} {v:.6g}" for n, v in made.metrics.items()), flush=True
        )
        return False
    run_folder.append_report(folder, made)
    return made.step >= _assignment(folder).target_step or run_folder.has_verdict(folder)


def lr(step: int, default: float) -> float:
    """The learning rate to make step number ``step`` (from 0) with.

    That of the trial's schedule, if the study gives it one (a fork, a strategy that searches schedules), on
    the straight lines between its points; else ``default``, what the script would have taken.
    """
    folder = _folder()
    points = [] if folder is None else list(_assignment(folder).schedule)
    if not points:
        return default
    later = next((place for place, (at, _) in enumerate(points) if at > step), len(points))
    if later in (0, len(points)):
        return points[max(0, later - 1)][1]
    (start, low), (end, high) = points[later - 1], points[later]
    return low + (high - low) * (step - start) / (end - start)


def checkpoint_dir() -> Path:
    """The folder to save the training state into, and to look for an earlier one at the start.

    Under a worker the run's own; alone ``./checkpoints``. It exists when this returns.
    """
    folder = _folder()
    chosen = Path("checkpoints") if folder is None else folder / run_folder.CHECKPOINT_FOLDER
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def _folder() -> Path | None:
    named = os.environ.get(run_folder.RUN_DIR_VARIABLE)
    return Path(named) if named else None


@lru_cache(maxsize=1)
def _assignment(folder: Path) -> run_folder.ScriptAssignment:
    return run_folder.read_assignment(folder)


def _like(default: ParamValue | None, value: ParamValue) -> ParamValue:
    """1 where the script's default is 1.0 becomes 1.0: JSON and YAML do not tell them apart."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
