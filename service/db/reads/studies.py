"""Studies as people see them: the list, one study, its best trial and its summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from search.strategies import forks
from service.db import budget, facts, pages, sources, waiting
from service.db.models import ImprovementRow, StudyRow, TrialRow
from service.db.reads import scaling, seeds
from service.errors import NotFoundError
from trimtab.wire.importances import Pruning
from trimtab.wire.space import scaled
from trimtab.wire.states import StudyState
from trimtab.wire.study import Direction, StudySpec
from trimtab.wire.views import (
    BestPoint,
    BestTrial,
    BudgetUse,
    FinalScore,
    Savings,
    StudyDetail,
    StudyItem,
    StudyPage,
    StudySummary,
    TrialCounts,
)

DEFAULT_LABEL = "default"
"""The label of the configuration that results are compared with."""


def find_study(session: Session, key: str) -> StudyRow:
    """The study with this id.

    Raises:
        NotFoundError: there is none.
    """
    study = session.scalar(select(StudyRow).where(StudyRow.key == key))
    if study is None:
        raise NotFoundError(f"There is no study {key!r}. GET /v1/studies lists them all.")
    return study


def list_studies(
    session: Session,
    *,
    now: datetime,
    cursor: str | None = None,
    limit: int = 50,
    state: StudyState | None = None,
    tag: str | None = None,
    name: str | None = None,
) -> StudyPage:
    """Studies, newest first; ``name`` is a part of the name in either case, ``tag`` a whole tag.

    Raises:
        InvalidError: a bad cursor.
    """
    query = select(StudyRow).order_by(StudyRow.id.desc()).limit(limit + 1)
    if cursor is not None:
        (before,) = pages.decode(cursor, "studies", int)
        query = query.where(StudyRow.id < before)
    if state is not None:
        query = query.where(StudyRow.state == state)
    if name is not None:
        query = query.where(StudyRow.name.icontains(name, autoescape=True))
    if tag is not None:
        sqlite = session.get_bind().dialect.name == "sqlite"
        unnest = func.json_each if sqlite else func.json_array_elements_text
        tags = unnest(StudyRow.tags).table_valued("value")
        query = query.where(exists().select_from(tags).where(tags.c.value == tag))
    studies = session.scalars(query).all()
    more, studies = len(studies) > limit, studies[:limit]
    return StudyPage(
        items=_items(session, studies, now),
        next_cursor=pages.encode("studies", studies[-1].id) if more else None,
    )


def study_detail(session: Session, key: str, now: datetime) -> StudyDetail:
    """One study with its specification, budget and best trial.

    Raises:
        NotFoundError: there is no such study.
    """
    study = find_study(session, key)
    (item,) = _items(session, [study], now)
    spec = StudySpec.model_validate(study.spec)
    limits = budget.use(session, study, now)
    elapsed = budget.elapsed_seconds(study, now)
    return StudyDetail(
        **dict(item),
        spec=spec,
        sources=sources.items(session, spec),
        budget=limits,
        best=_best(session, study),
        savings=_savings(session, study, spec),
        eta_seconds=_eta(study, limits, elapsed),
        elapsed_seconds=elapsed,
        decide_error=study.decide_error,
        finals=seeds.finals(session, study),
        pruning=None if study.pruning is None else Pruning.model_validate(study.pruning),
        scaling=scaling.progress(session, study, spec),
        waiting_for=waiting.waiting_for(session, study, now),
    )


def version(session: Session, key: str) -> int:
    """What moves whenever a trial is made, a run ends or the budget changes.

    Raises:
        NotFoundError: there is no such study.
    """
    return find_study(session, key).version


def summary(session: Session, key: str, now: datetime) -> StudySummary:
    """A study with its best-so-far curve and the configuration it is compared with.

    Raises:
        NotFoundError: there is no such study.
    """
    detail = study_detail(session, key, now)
    study = find_study(session, key)
    points = session.scalars(
        select(ImprovementRow).where(ImprovementRow.study_id == study.id).order_by(ImprovementRow.id)
    )
    default = session.scalar(
        select(TrialRow)
        .where(
            TrialRow.study_id == study.id,
            TrialRow.label == DEFAULT_LABEL,
            TrialRow.best_value.is_not(None),
        )
        .order_by(TrialRow.number)
        .limit(1)
    )
    return StudySummary(
        study=detail,
        best_so_far=[
            BestPoint(
                fidelity=point.fidelity, seconds=point.seconds, value=point.value, trial=point.trial_number
            )
            for point in points
        ],
        default=_as_best(session, study, default) if default is not None else None,
    )


def best(session: Session, key: str) -> BestTrial | None:
    """The trial with the best value so far; None before the first finite value.

    Raises:
        NotFoundError: there is no such study.
    """
    return _best(session, find_study(session, key))


def _best(session: Session, study: StudyRow) -> BestTrial | None:
    """The winner on the test seeds, else the best on the tuning seeds."""
    tested = seeds.finals(session, study)
    final = None if tested is None else tested.best
    if final is not None:
        wanted = (TrialRow.study_id == study.id, TrialRow.number == final.trial)
        return _as_best(session, study, session.scalars(select(TrialRow).where(*wanted)).one(), final)
    if study.best_trial_id is None:
        return None
    trial = session.get(TrialRow, study.best_trial_id)
    return _as_best(session, study, trial) if trial is not None else None


def _as_best(
    session: Session, study: StudyRow, trial: TrialRow, final: FinalScore | None = None
) -> BestTrial | None:
    if trial.best_value is None or trial.best_step is None:
        return None
    spec = facts.of(session, study.key).spec
    return BestTrial(
        number=trial.number,
        value=trial.best_value,
        step=trial.best_step,
        params=trial.params,
        scaled=scaled(spec.space, trial.params),
        label=trial.label,
        seeds=max(1, trial.seeds_measured),
        spread=trial.spread,
        final=final,
        parent=trial.parent,
        forked_at=trial.forked_at,
        front=f"/v1/studies/{study.key}/front" if spec.objectives else None,
    )


def _items(session: Session, studies: Sequence[StudyRow], now: datetime) -> list[StudyItem]:
    ids = [study.id for study in studies]
    counts: dict[int, Counter[str]] = {id_: Counter() for id_ in ids}
    spent = {id_: budget.Spent(trials=0, trained=0, seconds=0.0) for id_ in ids}
    imported = TrialRow.origin == "imported"
    grouped = (
        select(
            TrialRow.study_id,
            TrialRow.state,
            or_(imported, TrialRow.test),
            func.count(TrialRow.replica_of),
            func.count(),
            func.sum(TrialRow.trained),
            func.sum(TrialRow.seconds),
        )
        .where(TrialRow.study_id.in_(ids))
        .group_by(TrialRow.study_id, TrialRow.state, or_(imported, TrialRow.test))
    )
    for study_id, state, unpaid, repeats, count, trained, seconds in session.execute(grouped):
        counts[study_id][state] += count
        if not unpaid:
            before = spent[study_id]
            spent[study_id] = budget.Spent(
                trials=before.trials + count - repeats,
                trained=before.trained + int(trained),
                seconds=before.seconds + float(seconds),
            )
    best_ids = [study.best_trial_id for study in studies if study.best_trial_id is not None]
    best_trials = session.scalars(select(TrialRow).where(TrialRow.id.in_(best_ids)))
    numbers = {trial.id: trial.number for trial in best_trials}
    return [
        StudyItem(
            id=study.key,
            name=study.name,
            state=StudyState(study.state),
            state_reason=study.state_reason,
            strategy=study.strategy,
            trainer=study.trainer,
            metric=study.metric,
            direction=Direction.MAXIMIZE if study.maximize else Direction.MINIMIZE,
            trials=TrialCounts(**counts[study.id]),
            **_best_of(study, numbers),
            budget_fraction=_tightest(budget.use(session, study, now, spent[study.id])),
            tags=study.tags,
            created_at=study.created_at,
            started_at=study.started_at,
            ended_at=study.ended_at,
        )
        for study in studies
    ]


def _best_of(study: StudyRow, numbers: Mapping[int, int]) -> dict[str, Any]:
    """The winner on the test seeds, else the best on tuning seeds; ``numbers``: of trials, by row id."""
    finals = study.finals or {}
    if finals.get("winner") is not None:
        (tuning,) = (one["tuning"] for one in finals["finalists"] if one["trial"] == finals["winner"])
        return {"best_value": tuning, "best_trial": finals["winner"], "final_value": finals["mean"]}
    best = None if study.best_trial_id is None else numbers.get(study.best_trial_id)
    return {"best_value": study.best_value, "best_trial": best}


def _tightest(limits: Iterable[BudgetUse]) -> float:
    return max((limit.fraction for limit in limits), default=0.0)


def _savings(session: Session, study: StudyRow, spec: StudySpec) -> Savings:
    """Imported trials were trained elsewhere: they cost nothing here and save nothing. Test runs are beside
    the budget."""
    repeats, started, trained, inherited = session.execute(
        select(
            func.count(TrialRow.replica_of),
            func.count(),
            func.sum(TrialRow.trained),
            func.sum(TrialRow.forked_at),
        ).where(
            TrialRow.study_id == study.id,
            TrialRow.origin != "imported",
            TrialRow.trained > 0,
            ~TrialRow.test,
        )
    ).one()
    trainings = (started - repeats) * max(1, len(spec.seeds.tuning))
    units, full = int(trained or 0), trainings * spec.fidelity.max - int(inherited or 0)
    useful: int | None = None
    if forks(study.strategy):
        best = None if study.best_trial_id is None else session.get(TrialRow, study.best_trial_id)
        useful = 0 if best is None else min(units, best.step)
    return Savings(
        trained=units,
        full=full,
        fraction_saved=max(0.0, 1.0 - units / full) if full else 0.0,
        useful=useful,
    )


def _eta(study: StudyRow, limits: Iterable[BudgetUse], elapsed: float) -> float | None:
    """At the pace so far, the limit that is used most is used up in so many seconds."""
    used = _tightest(limit for limit in limits if limit.name != "target")
    if study.state != StudyState.RUNNING or not 0 < used < 1 or elapsed <= 0:
        return None
    return elapsed * (1.0 - used) / used
