"""Trials as people see them: the list, one trial with its curve, runs and reasons; decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import and_, false, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from service.db import facts, outcomes, pages
from service.db.models import (
    AttemptRow,
    CheckpointRow,
    DecisionRow,
    MeasurementRow,
    RunRow,
    StudyRow,
    TrialRow,
)
from service.db.reads import seeds
from service.db.reads.studies import find_study
from service.errors import NotFoundError
from trimtab.wire.space import scaled
from trimtab.wire.states import AttemptState, CheckpointState, FailureKind, RunState, TrialState
from trimtab.wire.study import StudySpec
from trimtab.wire.views import (
    AttemptView,
    CheckpointView,
    Child,
    CurvePoint,
    DecisionPage,
    DecisionView,
    FailureView,
    RunView,
    TrialDetail,
    TrialItem,
    TrialPage,
)

TrialSort = Literal[
    "number", "-number", "best", "value", "-value", "best_value", "-best_value",
    "step", "-step", "seconds", "-seconds", "state", "-state",
]  # fmt: skip
"""Orders of the list of trials: ``best`` has the best trial first, ``-`` turns an order round."""

UNFINISHED = (TrialState.QUEUED, TrialState.RUNNING)


@dataclass(frozen=True, slots=True)
class _Order:
    column: InstrumentedAttribute[Any]
    descending: bool
    kind: type | tuple[type, ...]


def find_trial(session: Session, study: StudyRow, number: int) -> TrialRow:
    """A study's trial by its number.

    Raises:
        NotFoundError: the study has no such trial.
    """
    trial = session.scalar(select(TrialRow).where(TrialRow.study_id == study.id, TrialRow.number == number))
    if trial is None:
        last = study.next_trial - 1
        has = "no trials yet" if last == 0 else "trial 1 alone" if last == 1 else f"trials 1 to {last}"
        raise NotFoundError(f"study {study.name!r} has no trial {number}: it has {has}")
    return trial


def list_trials(
    session: Session,
    key: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
    state: TrialState | None = None,
    sort: TrialSort = "number",
    replicas: bool = True,
) -> TrialPage:
    """A page of a study's trials. Trials without a value come last in any order by value.

    ``replicas``: those that repeat a configuration with another seed are listed, too.

    Raises:
        NotFoundError: there is no such study.
        InvalidError: a bad cursor, or one of another order.
    """
    study = find_study(session, key)
    order = _order(sort, study)
    listing = f"trials:{sort}"
    column = order.column.desc() if order.descending else order.column.asc()
    query = (
        select(TrialRow)
        .where(TrialRow.study_id == study.id)
        .order_by(order.column.is_(None), column, TrialRow.number)
        .limit(limit + 1)
    )
    if state is not None:
        query = query.where(TrialRow.state == state)
    if not replicas:
        query = query.where(TrialRow.replica_of.is_(None))
    if cursor is not None:
        value, number = pages.decode(cursor, listing, order.kind, int)
        query = query.where(_behind(order, value, number))
    trials = session.scalars(query).all()
    more, trials = len(trials) > limit, trials[:limit]
    last = trials[-1] if more else None
    return TrialPage(
        items=[trial_item(session, key, trial) for trial in trials],
        next_cursor=None
        if last is None
        else pages.encode(listing, getattr(last, order.column.key), last.number),
    )


def trial_item(session: Session, key: str, trial: TrialRow) -> TrialItem:
    """A trial of the study ``key`` as a row of the list."""
    return TrialItem(**_item(trial, facts.of(session, key).spec))


def trial_detail(session: Session, key: str, number: int) -> TrialDetail:
    """One trial, whole: its curve, runs with their attempts, decisions and checkpoints.

    Raises:
        NotFoundError: there is no such study or trial.
    """
    study = find_study(session, key)
    trial = find_trial(session, study, number)
    points = session.execute(
        select(MeasurementRow.step, MeasurementRow.metrics, MeasurementRow.seconds, MeasurementRow.at)
        .where(MeasurementRow.trial_id == trial.id)
        .order_by(MeasurementRow.step)
    )
    made = session.scalars(
        select(DecisionRow).where(DecisionRow.trial_id == trial.id).order_by(DecisionRow.id)
    )
    saved = session.scalars(
        select(CheckpointRow)
        .where(CheckpointRow.trial_id == trial.id)
        .order_by(CheckpointRow.step, CheckpointRow.id)
    ).all()
    children = session.execute(
        select(TrialRow.number, TrialRow.forked_at, TrialRow.state, TrialRow.best_value)
        .where(TrialRow.study_id == study.id, TrialRow.parent == number)
        .order_by(TrialRow.number)
    ).all()
    ready = any(checkpoint.state == CheckpointState.READY for checkpoint in saved)
    return TrialDetail(
        **_item(trial, facts.of(session, key).spec),
        study=study.key,
        curve=[
            CurvePoint(step=point.step, metrics=point.metrics, seconds=point.seconds, at=point.at)
            for point in points
        ],
        runs_detail=_runs(session, trial),
        decisions=[_decision(row, trial.number) for row in made],
        checkpoints=[
            CheckpointView(
                id=row.id, step=row.step, uri=row.uri, bytes=row.bytes, state=row.state, at=row.at
            )
            for row in saved
        ],
        failure=_failure(trial),
        can_continue=ready and trial.state not in UNFINISHED,
        can_fork=sorted(
            {checkpoint.step for checkpoint in saved if checkpoint.state == CheckpointState.READY}
        ),
        children=[
            Child(
                number=row.number,
                forked_at=row.forked_at,
                state=TrialState(row.state),
                best_value=row.best_value,
            )
            for row in children
        ],
        **seeds.of_trial(session, study, trial),
    )


def decisions(session: Session, key: str, *, cursor: str | None = None, limit: int = 50) -> DecisionPage:
    """What search decided for a study, newest first.

    Raises:
        NotFoundError: there is no such study.
        InvalidError: a bad cursor.
    """
    study = find_study(session, key)
    query = (
        select(DecisionRow, TrialRow.number)
        .outerjoin(TrialRow, TrialRow.id == DecisionRow.trial_id)
        .where(DecisionRow.study_id == study.id)
        .order_by(DecisionRow.id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        (before,) = pages.decode(cursor, "decisions", int)
        query = query.where(DecisionRow.id < before)
    rows = session.execute(query).all()
    more, rows = len(rows) > limit, rows[:limit]
    return DecisionPage(
        items=[_decision(row, number) for row, number in rows],
        next_cursor=pages.encode("decisions", rows[-1][0].id) if more else None,
    )


def _order(sort: TrialSort, study: StudyRow) -> _Order:
    if sort not in get_args(TrialSort):
        raise ValueError(f"unknown order {sort!r}")
    number: tuple[type, ...] = (int, float, type(None))
    if sort == "best":
        return _Order(TrialRow.best_value, study.maximize, number)
    columns: dict[str, tuple[InstrumentedAttribute[Any], type | tuple[type, ...]]] = {
        "number": (TrialRow.number, int),
        "value": (TrialRow.value, number),
        "best_value": (TrialRow.best_value, number),
        "step": (TrialRow.step, int),
        "seconds": (TrialRow.seconds, (int, float)),
        "state": (TrialRow.state, str),
    }
    column, kind = columns[sort.removeprefix("-")]
    return _Order(column, sort.startswith("-"), kind)


def _behind(order: _Order, value: Any, number: int) -> Any:
    """Rows behind the one with this sort value and number, empty values last."""
    if value is None:
        return and_(order.column.is_(None), TrialRow.number > number)
    further = order.column < value if order.descending else order.column > value
    same = and_(order.column == value, TrialRow.number > number)
    return or_(further, same, order.column.is_(None) if order.column.nullable else false())


def _item(trial: TrialRow, spec: StudySpec) -> dict[str, Any]:
    last = outcomes.of_trial(spec, trial.value, trial.outcomes)
    compared = bool(spec.objectives) or trial.best_value is None
    over = compared and trial.state != TrialState.FAILED
    return {
        "number": trial.number,
        "state": TrialState(trial.state),
        "state_reason": trial.state_reason,
        "params": trial.params,
        "scaled": scaled(spec.space, trial.params),
        "label": trial.label,
        "origin": trial.origin,
        "parent": trial.parent,
        "forked_at": trial.forked_at,
        "schedule": None
        if trial.schedule is None
        else [(int(step), rate) for step, rate in trial.schedule],
        "seed": trial.seed,
        "replica_of": trial.replica_of,
        "test": trial.test,
        "seeds_measured": trial.seeds_measured if spec.seeds.several and trial.replica_of is None else None,
        "spread": trial.spread,
        "spared": trial.spared,
        "step": trial.step,
        "target_step": trial.target_step,
        "value": trial.value,
        "outcomes": {name: value for name, value in last.items() if name != spec.metric.name},
        "over_limits": outcomes.broken(spec, last) if over else [],
        "best_value": trial.best_value,
        "best_step": trial.best_step,
        "seconds": trial.seconds,
        "runs": trial.runs,
        "retries": trial.retries,
        "failure_kind": FailureKind(trial.failure_kind) if trial.failure_kind else None,
        "created_at": trial.created_at,
        "ended_at": trial.ended_at,
    }


def _runs(session: Session, trial: TrialRow) -> list[RunView]:
    runs = session.scalars(select(RunRow).where(RunRow.trial_id == trial.id).order_by(RunRow.number)).all()
    attempts: dict[int, list[AttemptView]] = {run.id: [] for run in runs}
    for attempt in session.scalars(
        select(AttemptRow).where(AttemptRow.trial_id == trial.id).order_by(AttemptRow.token)
    ):
        attempts[attempt.run_id].append(
            AttemptView(
                token=attempt.token,
                state=AttemptState(attempt.state),
                worker=attempt.worker,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                failure=_failure(attempt),
            )
        )
    return [
        RunView(
            number=run.number,
            state=RunState(run.state),
            start_step=run.start_step,
            target_step=run.target_step,
            end_step=run.end_step,
            reason=run.reason,
            attempts=attempts[run.id],
        )
        for run in runs
    ]


def _failure(row: TrialRow | AttemptRow) -> FailureView | None:
    if row.failure_kind is None:
        return None
    return FailureView(
        kind=FailureKind(row.failure_kind),
        message=row.failure_message or "",
        output_tail=row.failure_output or "",
    )


def _decision(row: DecisionRow, trial: int | None) -> DecisionView:
    return DecisionView.model_validate(
        {
            "id": row.id,
            "kind": row.kind,
            "trial": trial,
            "target_step": row.target_step,
            "reason": row.reason,
            "strategy": row.strategy,
            "seed": row.seed,
            "seconds": row.seconds,
            "diagnostics": row.diagnostics,
            "at": row.at,
        }
    )
