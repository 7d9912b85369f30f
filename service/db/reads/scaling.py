"""How far a scaling study has come, from the diagnostics of its decisions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from search.strategies.scaling import Scaling
from service import specs
from service.db.models import DecisionRow, FitRow, StudyRow
from service.db.study_laws import FAMILIES, asked
from trimtab.wire.laws import FitState, Range, ScalingProgress, ScalingRound, StudyFit
from trimtab.wire.study import StudySpec


def progress(session: Session, study: StudyRow, spec: StudySpec) -> ScalingProgress | None:
    """None for a study of another strategy."""
    strategy = specs.strategy(spec) if study.strategy == Scaling.name else None
    if not isinstance(strategy, Scaling):
        return None
    told = session.scalars(
        select(DecisionRow.diagnostics).where(DecisionRow.study_id == study.id).order_by(DecisionRow.id)
    )
    rounds = {each["scaling"]["round"]: each["scaling"] for each in told if "lr" in each.get("scaling", {})}
    made = (
        []
        if study.ended_at is None
        else session.execute(
            select(FitRow.key, FitRow.family, FitRow.state)
            .where(
                FitRow.idempotency_key.in_([asked(study.key, study.ended_at, each) for each in FAMILIES])
            )
            .order_by(FitRow.id)
        ).all()
    )
    return ScalingProgress(
        n=strategy.target[0],
        d=strategy.target[1],
        within=strategy.within,
        flops=strategy.flops,
        rounds=[_round(rounds[number]) for number in sorted(rounds)],
        fits=[StudyFit(id=row.key, family=row.family, state=FitState(row.state)) for row in made],
    )


def _round(told: dict[str, Any]) -> ScalingRound:
    """``round`` in the diagnostics is the one that was planned: one behind what it was planned from."""
    return ScalingRound(
        round=told["round"] - 1,
        trials=told["trials"],
        flops=told["flops"],
        lr=_range(told["lr"]),
        batch=_range(told["batch"]),
        cautions=list(told["grave"]),
    )


def _range(ends: list[float]) -> Range:
    low, value, high = ends
    return Range(low=low, value=value, high=high)
