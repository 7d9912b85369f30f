"""The Pareto front of a study as people see it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db import facts, outcomes
from service.db.models import TrialRow
from service.db.reads.studies import find_study
from trimtab.wire.space import scaled
from trimtab.wire.study import StudySpec
from trimtab.wire.views import FrontResponse, FrontTrial

TRIALS_PER_QUERY = 500


def front(session: Session, key: str, *, others: int = 0) -> FrontResponse:
    """The completed trials that keep all limits and that no other such trial dominates.

    ``others``: so many of the newest completed trials that are not among them are answered, too.

    Raises:
        NotFoundError: there is no such study.
    """
    study = find_study(session, key)
    spec = facts.of(session, key).spec
    compared = outcomes.read(session, study.id, spec)
    rest = sorted((*compared.dominated, *compared.over_limits))[-others:] if others else []
    return FrontResponse(
        study=key,
        objectives=spec.goals,
        limits=spec.limits,
        trials=_trials(session, spec, compared.front),
        others=_trials(session, spec, rest),
        dominated=len(compared.dominated),
        over_limits=len(compared.over_limits),
    )


def _trials(session: Session, spec: StudySpec, ids: Iterable[int]) -> list[FrontTrial]:
    wanted = list(ids)
    rows: dict[int, TrialRow] = {}
    for start in range(0, len(wanted), TRIALS_PER_QUERY):
        some = select(TrialRow).where(TrialRow.id.in_(wanted[start : start + TRIALS_PER_QUERY]))
        rows |= {row.id: row for row in session.scalars(some)}
    return [_trial(spec, rows[id_]) for id_ in wanted]


def _trial(spec: StudySpec, trial: TrialRow) -> FrontTrial:
    found = outcomes.of_trial(spec, trial.value, trial.outcomes)
    return FrontTrial(
        number=trial.number,
        outcomes=found,
        over_limits=outcomes.broken(spec, found),
        step=trial.step,
        params=trial.params,
        scaled=scaled(spec.space, trial.params),
        label=trial.label,
    )
