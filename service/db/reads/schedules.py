"""The learning-rate schedule that a study has found."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from search import schedules
from search.decision import Schedule
from service.db.models import StudyRow, TrialRow
from service.db.reads.studies import find_study
from service.errors import ConflictError, InvalidError, NotFoundError
from trimtab.wire.problems import FieldProblem
from trimtab.wire.views import ScheduleView, TriedSchedule


@dataclass(frozen=True, slots=True)
class _Link:
    """A trial in a line of forks; see :class:`search.schedules.Link`."""

    number: int
    parent: int | None
    forked_at: int
    schedule: Schedule


def schedule(
    session: Session, key: str, *, number: int | None = None, horizon: int | None = None
) -> ScheduleView:
    """The whole schedule of trial ``number`` (None: the best), laid out over ``horizon`` steps if given.

    Raises:
        NotFoundError: no such study or trial, or no trial has a finite value yet.
        ConflictError: the trial, or one that it was forked from, follows its own settings.
        InvalidError: the horizon is shorter than the warm-up.
    """
    study = find_study(session, key)
    trial = _trial(session, study, number)
    line = [trial]
    while line[0].parent is not None:
        line.insert(0, _trial(session, study, line[0].parent))
    unplanned = [row.number for row in line if not row.schedule]
    if unplanned:
        raise ConflictError(
            f"Trial {unplanned[0]} was trained by the schedule that its own settings say, not by one that "
            "was searched or given to it."
        )
    links = [_Link(row.number, row.parent, row.forked_at, _points(row)) for row in line]
    points, steps = schedules.lineage(links, trial.number), trial.step
    if horizon is not None:
        try:
            points = schedules.stretched(points, steps, horizon, schedules.warmup(points))
        except ValueError as error:
            mistake = FieldProblem(pointer="/horizon", message=str(error), suggestion="Ask for more steps.")
            raise InvalidError("The schedule cannot be laid out so.", [mistake]) from error
        steps = horizon
    trained = session.scalar(select(func.sum(TrialRow.trained)).where(TrialRow.study_id == study.id)) or 0
    return ScheduleView(
        trial=trial.number,
        line=[row.number for row in line],
        value=trial.best_value,
        steps=steps,
        points=list(points),
        useful=trial.step,
        search=max(0, int(trained) - trial.step),
        tried=[] if horizon is not None else _tried(session, study, {row.number for row in line}),
        torch=schedules.torch_source(points),
    )


def _trial(session: Session, study: StudyRow, number: int | None) -> TrialRow:
    wanted = TrialRow.id == study.best_trial_id if number is None else TrialRow.number == number
    found = session.scalar(select(TrialRow).where(TrialRow.study_id == study.id, wanted))
    if found is None:
        raise NotFoundError(
            "No trial of this study has reported a finite value yet."
            if number is None
            else f"This study has no trial {number}."
        )
    return found


def _tried(session: Session, study: StudyRow, line: set[int]) -> list[TriedSchedule]:
    """What the trials that are not in ``line`` were trained with, each as far as it came."""
    rows = session.scalars(
        select(TrialRow)
        .where(TrialRow.study_id == study.id, TrialRow.schedule.is_not(None))
        .order_by(TrialRow.number)
    )
    return [
        TriedSchedule(trial=row.number, points=_clipped(_points(row), row.forked_at, row.step))
        for row in rows
        if row.number not in line and row.step > row.forked_at
    ]


def _clipped(points: Schedule, start: int, end: int) -> list[tuple[int, float]]:
    """The part from step ``start`` to ``end``, with points at both."""
    (first,), (last,) = (schedules.rates(points, step, step + 1) for step in (start, end))
    return [(start, first), *(point for point in points if start < point[0] < end), (end, last)]


def _points(trial: TrialRow) -> Schedule:
    return tuple((int(step), rate) for step, rate in trial.schedule or ())
