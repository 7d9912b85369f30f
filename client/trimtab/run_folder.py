"""How a worker and a user's training script talk: by files in one folder, so any language can take part.

The worker makes the folder, names it to the script in the environment variable ``TRIMTAB_RUN_DIR``, and
writes ``assignment.json``::

    {"params": {"lr": 0.003, "width": 64}, "start_step": 200, "target_step": 600, "max_step": 1800,
     "report_every": 20, "seed": 7, "schedule": [[0, 0.0], [100, 0.003]], "parent": 4, "forked_at": 200}

``schedule`` (empty unless the study plans one) is the learning rate at every step. ``checkpoint/`` is the
script's: at the start it holds what the trial's last run left there, in a forked trial what its parent left
(or nothing), at the end whatever is in it is kept. The script appends one JSON object per line to
``reports.jsonl``::

    {"step": 220, "metrics": {"val_loss": 2.31, "grad_norm": "NaN"}}

Non-finite numbers are the strings ``NaN``, ``Infinity`` and ``-Infinity``. As soon as the file ``verdict``
is there (its text is ``stop`` or ``pause``), or the target step is reached, the script saves and exits.

Standard library only, and Python 3.10: this module runs in the user's interpreter.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Optional, Union

RUN_DIR_VARIABLE = "TRIMTAB_RUN_DIR"
ASSIGNMENT_FILE = "assignment.json"
REPORTS_FILE = "reports.jsonl"
VERDICT_FILE = "verdict"
CHECKPOINT_FOLDER = "checkpoint"

ParamValue = Union[bool, int, float, str]  # noqa: UP007 - evaluated on Python 3.10 as well

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-/]{0,119}")


@dataclass(frozen=True)
class ScriptAssignment:
    """What a training script is to do."""

    params: Mapping[str, ParamValue]
    """Fixed settings and the trial's parameters together; parameters win."""
    start_step: int
    """The step the checkpoint stands at; 0 without one."""
    target_step: int
    """Train to this step, then save and exit."""
    max_step: int
    """A full training: lay schedules out over this many steps. The target may lie beyond."""
    report_every: int
    seed: int
    schedule: Sequence[tuple[int, float]] = ()
    """The learning rate at every step, whatever the parameters say: (step, rate) points with straight lines
    between them. Empty: as the parameters say."""
    parent: Optional[int] = None  # noqa: UP045 - evaluated on Python 3.10 as well
    """The trial that this one was forked from: at its start the checkpoint is that trial's."""
    forked_at: int = 0
    """The step of the parent's checkpoint."""


@dataclass(frozen=True)
class ScriptReport:
    """One line of ``reports.jsonl``."""

    step: int
    metrics: Mapping[str, float]


class RunFolderError(ValueError):
    """A file of the run folder does not say what it must; the message names the file and the line."""


def write_assignment(folder: Path, assignment: ScriptAssignment) -> None:
    """Set an existing folder up for a script: the assignment and an empty or restored checkpoint folder."""
    (folder / CHECKPOINT_FOLDER).mkdir(exist_ok=True)
    (folder / ASSIGNMENT_FILE).write_text(json.dumps(asdict(assignment)), encoding="utf-8")


def read_assignment(folder: Path) -> ScriptAssignment:
    """Raises :class:`RunFolderError` if the file is missing or incomplete."""
    path = folder / ASSIGNMENT_FILE
    try:
        return ScriptAssignment(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(f"{path}: {error}") from error


def append_report(folder: Path, report: ScriptReport) -> None:
    """Add one line, whole and at once."""
    metrics = {name: _encode(value) for name, value in report.metrics.items()}
    line = json.dumps({"step": report.step, "metrics": metrics}) + "\n"
    descriptor = os.open(folder / REPORTS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read_reports(folder: Path, offset: int = 0) -> tuple[list[ScriptReport], int]:
    """The reports in the complete lines after byte ``offset``, and the offset to go on from.

    A line that is no report ends the reading before it; a reading that begins with one raises
    :class:`RunFolderError`, naming the line. So no good line before it is lost.
    """
    try:
        with (folder / REPORTS_FILE).open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    reports: list[ScriptReport] = []
    for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
        if line.strip():
            try:
                reports.append(_parse(line))
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RecursionError,
                TypeError,
                ValueError,
            ) as error:
                if reports:
                    break
                shown = line[:200].decode(errors="replace").rstrip()
                where = f"{REPORTS_FILE}, line {_line_number(folder, offset)}"
                raise RunFolderError(f"{where}: not a report ({error!r}): {shown}") from error
        offset += len(line)
    return reports, offset


def give_verdict(folder: Path, verdict: str) -> None:
    """Tell the script to save and exit; ``verdict`` (``stop`` or ``pause``) is for people who read it."""
    (folder / VERDICT_FILE).write_text(verdict + "\n", encoding="utf-8")


def has_verdict(folder: Path) -> bool:
    """Whether the script was told to save and exit."""
    return (folder / VERDICT_FILE).exists()


def make_report(step: int, metrics: Mapping[str, float]) -> ScriptReport:
    """A report from whatever numbers a training library holds (tensors and numpy scalars included).

    Raises ``ValueError`` or ``TypeError`` for a step below 1, no metrics, a bad name or a non-number.
    """
    whole = int(step)
    if whole < 1 or whole != step:
        raise ValueError(f"step must be a whole number from 1, not {step!r}")
    if not metrics:
        raise ValueError("report at least one metric, as in report(step, val_loss=0.5)")
    for name in metrics:
        if not _METRIC_NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be a metric's name: use letters, digits and _ . - /")
    return ScriptReport(whole, {name: float(value) for name, value in metrics.items()})


def _encode(value: float) -> float | str:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _decode(value: object) -> float:
    if isinstance(value, str) and value in _NON_FINITE:
        return _NON_FINITE[value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"a metric must be a number, not {value!r}")


def _parse(line: bytes) -> ScriptReport:
    """Raises one of several built-in exceptions if the line is no report."""
    fields = json.loads(line)
    return make_report(fields["step"], {name: _decode(value) for name, value in fields["metrics"].items()})


def _line_number(folder: Path, offset: int) -> int:
    """The number, from 1, of the line that begins at byte ``offset``."""
    with (folder / REPORTS_FILE).open("rb") as file:
        return file.read(offset).count(b"\n") + 1
