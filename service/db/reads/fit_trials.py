"""The trials of studies as the runs of a scaling law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from service.db.models import MeasurementRow, StudyRow, TrialRow
from service.errors import InvalidError
from trimtab.catalogue import trainers
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import scaled
from trimtab.wire.states import FailureKind, TrialState
from trimtab.wire.study import StudySpec


@dataclass(frozen=True, slots=True)
class FitTrials:
    """Trials as plain data: ``study``, ``trial``, ``params`` (as the trainer got them), ``settings``
    (defaults among them), ``metrics`` (at the last measurement), ``step``, ``tokens``, ``diverged``."""

    trials: list[dict[str, Any]]
    metric: str
    """The metric of the studies."""
    left_out: int
    """Trials that were neither trained to the end nor diverged, or never measured."""


def fit_trials(session: Session, keys: Sequence[str]) -> FitTrials:
    """The trials of these studies that were trained to the end, and those that diverged.

    Forks are left out: what they come to is their parents', too. The tokens of a trial that diverged are
    those it would have seen. Raises :class:`InvalidError` naming each study that cannot be used.
    """
    found = {row.key: row for row in session.scalars(select(StudyRow).where(StudyRow.key.in_(keys)))}
    problems = [
        _problem(at, f"there is no study with the id {key}", "GET /v1/studies lists them all")
        for at, key in enumerate(keys)
        if key not in found
    ]
    metrics = list(dict.fromkeys(found[key].metric for key in keys if key in found))
    if len(metrics) > 1:
        at = next(i for i, key in enumerate(keys) if key in found and found[key].metric != metrics[0])
        problems.append(
            _problem(at, f"studies of {' and '.join(metrics)} cannot be fitted together", "fit one of them")
        )
    if problems:
        raise InvalidError("The studies cannot be fitted.", problems)
    trials: list[dict[str, Any]] = []
    left_out = 0
    for key in dict.fromkeys(keys):
        used, passed_over = _trials(session, found[key])
        trials += used
        left_out += passed_over
    return FitTrials(trials, metrics[0], left_out)


def _trials(session: Session, study: StudyRow) -> tuple[list[dict[str, Any]], int]:
    spec = StudySpec.model_validate(study.spec)
    settings = _settings(spec)
    last = and_(MeasurementRow.trial_id == TrialRow.id, MeasurementRow.step == TrialRow.step)
    rows = session.execute(
        select(TrialRow, MeasurementRow.metrics, MeasurementRow.tokens)
        .outerjoin(MeasurementRow, last)
        .where(TrialRow.study_id == study.id)
        .order_by(TrialRow.number)
    )
    used: list[dict[str, Any]] = []
    left_out = 0
    for trial, metrics, tokens in rows:
        diverged = trial.state == TrialState.FAILED and trial.failure_kind == FailureKind.DIVERGED
        if (
            metrics is None
            or trial.parent is not None
            or not (diverged or trial.state == TrialState.COMPLETED)
        ):
            left_out += 1
            continue
        if diverged and tokens is not None:
            tokens = round(tokens * spec.fidelity.max / max(trial.step, 1))
        used.append(
            {
                "study": study.name,
                "trial": trial.number,
                "params": {**trial.params, **scaled(spec.space, trial.params)},
                "settings": settings,
                "metrics": metrics,
                "step": spec.fidelity.max if diverged else trial.step,
                "tokens": tokens,
                "diverged": diverged,
            }
        )
    return used, left_out


def _settings(spec: StudySpec) -> dict[str, Any]:
    """The trainer's, at their defaults where the study says nothing; what is searched is no setting."""
    entry = trainers().get(spec.trainer.name or "")
    defaults = {} if entry is None else {each.name: each.default for each in entry.settings}
    return {
        name: value
        for name, value in {**defaults, **spec.trainer.settings}.items()
        if name not in spec.space
    }


def _problem(at: int, message: str, suggestion: str) -> FieldProblem:
    return FieldProblem(pointer=f"/studies/{at}", message=message, suggestion=suggestion)
