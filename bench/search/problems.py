"""The learning curves that engines are measured on: LCBench's surrogate and the tables of TaskSet.

Both are read from the folder that ``TRIMTAB_BENCH_DATA`` names, by default ``../shared/data`` beside the
repository; its README says where the data comes from.

**LCBench**: a network trained on Zimmer et al.'s curves answers any configuration of 7 parameters with 52
epochs of validation accuracy (percent, maximised) and the training time. Regret is measured between the
best and the worst accuracy known of the data set.

**TaskSet**: 1,000 recorded trainings of one task with Adam's 8 parameters, 50 epochs each (the 51st point
is the loss before training), validation loss, minimised. The table has no other configurations: *the
nearest recorded one answers*, by Euclidean distance in the unit cube of the space. Both betas are given as
1 - beta on a log scale, as they were drawn. A training that diverged has NaN from there on. Regret is
measured between the table's least loss and the loss of an untrained model (the median over the recorded
trainings), clipped to [0, 1]. With it, random search has 0.55 / 0.47 / 0.37 after 5 / 10 / 20 full
trainings, near to what others saw on other tasks of TaskSet (0.62 / 0.47 / 0.40); measured on log losses
it would be 0.61 / 0.53 / 0.42, and with ln 2, the loss of always answering "one half", as the worst 0.86 /
0.75 / 0.60.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

Params = Mapping[str, float]
Array = npt.NDArray[np.float64]
Family = Literal["lcbench", "taskset"]

REPOSITORY = Path(__file__).resolve().parents[2]
LEAST_SECONDS = 1e-3
"""The surrogate's time is not always growing; an epoch takes at least this."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """A number to be chosen between ``low`` and ``high``, both included."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """What a full training gives; both of length ``max_epochs``."""

    values: tuple[float, ...]
    """The metric after each epoch; non-finite once the training has diverged."""
    seconds: tuple[float, ...]
    """What each epoch costs on the virtual clock."""


@dataclass(frozen=True)
class Problem:
    """Something to be tuned."""

    name: str
    family: Family
    dimensions: tuple[Dimension, ...]
    max_epochs: int
    maximize: bool
    best: float
    worst: float
    curve: Callable[[Params], Curve]
    recorded: tuple[Params, ...] = ()
    """The configurations of a table: each answers with its own curve. Empty if any can be asked for."""

    @property
    def space(self) -> dict[str, Any]:
        """The space as the wire's JSON."""
        return {
            d.name: {
                "type": "int" if d.whole else "float",
                "low": int(d.low) if d.whole else d.low,
                "high": int(d.high) if d.whole else d.high,
                "log": d.log,
            }
            for d in self.dimensions
        }

    def regret(self, incumbent: float | None) -> float:
        """Normalised regret of the best value found, in [0, 1]; 1 while there is none."""
        if incumbent is None:
            return 1.0
        return min(1.0, max(0.0, (self.best - incumbent) / (self.best - self.worst)))

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is finite and improves on another."""
        if not math.isfinite(value):
            return False
        return than is None or (value > than if self.maximize else value < than)


class NoDataError(Exception):
    """The benchmark's data is not there."""


def data_folder() -> Path:
    """Where the data is. Raises :class:`NoDataError` if there is none."""
    folder = Path(os.environ.get("TRIMTAB_BENCH_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "lcbench").is_dir() or not (folder / "taskset").is_dir():
        raise NoDataError(
            f"{folder} has no folders lcbench and taskset: "
            "set TRIMTAB_BENCH_DATA to the folder with the benchmark's data"
        )
    return folder


def problems(wanted: Sequence[str] = ()) -> list[Problem]:
    """The problems of the named families, or of the given names; all if none is named.

    Raises :class:`NoDataError`, and ValueError for a name that there is not.
    """
    folder = data_folder()
    every = [*_lcbench(folder / "lcbench"), *_taskset(folder / "taskset")]
    unknown = set(wanted) - {p.name for p in every} - {p.family for p in every}
    if unknown:
        raise ValueError(
            f"no problem {sorted(unknown)[0]!r}; there are: {', '.join(p.name for p in every)}"
        )
    return [p for p in every if not wanted or p.name in wanted or p.family in wanted]


# LCBench

_LCBENCH = (
    Dimension("batch_size", 16, 512, log=True, whole=True),
    Dimension("learning_rate", 1e-4, 1e-1, log=True),
    Dimension("momentum", 0.1, 0.99),
    Dimension("weight_decay", 1e-5, 1e-1),
    Dimension("num_layers", 1, 5, whole=True),
    Dimension("max_units", 64, 1024, log=True, whole=True),
    Dimension("max_dropout", 0.0, 1.0),
)
"""In the order in which the surrogate wants them; as in the data's ``config_space.json``."""
_LCBENCH_EPOCHS = 52


def _lcbench(folder: Path) -> list[Problem]:
    references = json.loads((folder / "dev_references.json").read_text())
    codes = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
    return [
        Problem(
            f"lcbench-{task}",
            "lcbench",
            _LCBENCH,
            _LCBENCH_EPOCHS,
            True,
            reference["best"],
            reference["worst"],
            _surrogate_curve(folder / "model.onnx", codes[task]),
        )
        for task, reference in references.items()
    ]


@cache
def _surrogate(model: Path) -> Any:
    import onnxruntime  # only needed here, and only with the extra "bench"

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _surrogate_curve(model: Path, code: int) -> Callable[[Params], Curve]:
    tasks = np.full((_LCBENCH_EPOCHS, 1), code, dtype=np.int32)
    epochs = np.arange(1, _LCBENCH_EPOCHS + 1)

    def curve(params: Params) -> Curve:
        row = [params[d.name] for d in _LCBENCH]
        inputs = np.column_stack([epochs, np.tile(row, (_LCBENCH_EPOCHS, 1))]).astype(np.float32)
        (output,) = _surrogate(model).run(None, {"x_cat": tasks, "x_cont": inputs})
        total = output[:, 0].astype(np.float64)  # seconds since the start
        seconds = np.maximum(np.diff(total, prepend=0.0), LEAST_SECONDS)
        return Curve(tuple(output[:, 1].astype(np.float64).tolist()), tuple(seconds.tolist()))

    return curve


# TaskSet

_TASKSET = (
    Dimension("learning_rate", 1e-8, 1e1, log=True),
    Dimension("one_minus_beta1", 1e-4, 1.0, log=True),
    Dimension("one_minus_beta2", 1e-6, 1.0, log=True),
    Dimension("epsilon", 1e-10, 1e3, log=True),
    Dimension("l1", 1e-8, 1e1, log=True),
    Dimension("l2", 1e-8, 1e1, log=True),
    Dimension("linear_decay", 1e-7, 1e-4, log=True),
    Dimension("exponential_decay", 1e-6, 1e-3, log=True),
)
"""The ranges that the recorded configurations were drawn from: uniformly on log scales, as their quantiles
show (Metz et al., "Using a thousand optimization tasks to learn hyperparameter search strategies",
2020)."""


def _taskset(folder: Path) -> list[Problem]:
    return [_table(path) for path in sorted(folder.glob("*.npz"))]


def _table(path: Path) -> Problem:
    with np.load(path) as table:
        names, hp, valid = table["names"].tolist(), table["hp"], table["valid"].astype(np.float64)
    columns: list[Array] = []
    for d in _TASKSET:
        recorded = d.name.removeprefix("one_minus_")
        column = hp[:, names.index(recorded)]
        columns.append(1.0 - column if recorded != d.name else column)
    nearest = cKDTree(_in_cube(np.column_stack(columns)))
    values = valid[:, 1:]
    epochs = values.shape[1]

    def curve(params: Params) -> Curve:
        _, row = nearest.query(_in_cube(np.array([[params[d.name] for d in _TASKSET]]))[0])
        return Curve(tuple(values[row].tolist()), (1.0,) * epochs)

    rows = tuple(
        {d.name: value for d, value in zip(_TASKSET, row, strict=True)}
        for row in np.column_stack(columns).tolist()
    )
    return Problem(
        f"taskset-{path.stem}",
        "taskset",
        _TASKSET,
        epochs,
        False,
        float(np.nanmin(values)),
        float(np.median(valid[:, 0])),
        curve,
        rows,
    )


def _in_cube(points: Array) -> Array:
    """Configurations of TaskSet's space, shape (n, 8), on the unit cube."""
    low = np.log([d.low for d in _TASKSET])
    high = np.log([d.high for d in _TASKSET])
    unit: Array = (np.log(points) - low) / (high - low)
    return unit
