"""What a study's specification says that reports, leases and ends need: parsed once, kept in memory.

Of a specification only the budget's limits and ``prune`` ever change (a person extends a study, or has its
whole space searched again), and they are not read from here; so what is kept under a study's public id
stays true.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from search import prediction, stopping, strategies
from search.along import Along
from search.features import Features
from search.view import Limit
from service import specs
from service.db.models import StudyRow
from trimtab.wire.study import (
    DivergenceRule,
    MedianRule,
    PatienceRule,
    PredictedRule,
    StudySpec,
    TargetRule,
)

KEPT = 256


@dataclass(frozen=True, slots=True)
class Facts:
    """A study's specification and its stopping rules in search's words."""

    spec: StudySpec
    rules: Sequence[stopping.Rule]
    local_rules: Sequence[stopping.Rule]
    """Those that need not know the other trials at the same step."""
    safety_rules: Sequence[stopping.Rule]
    """Those that hold for a trial that is to be trained to the end, too: divergence and target."""
    maximize: bool
    limits: Sequence[Limit] = ()
    """What metrics must keep at a measurement, or it does not count for a best value."""
    watched: Sequence[str] = ()
    """The metrics that further objectives and limits name, and those that the strategy reads."""
    checks: frozenset[int] = frozenset()
    """The steps at which a predicted rule judges; empty if there is no such rule."""
    features: Features | None = None
    """How configurations are encoded for a predicted rule; None if there is no such rule."""
    forks: bool = False
    """Whether the strategy forks trials, so that checkpoints are kept for it."""
    along: Along | None = None
    """The parameter that is the study's fidelity, if one is: only trials at its target can be the best."""

    @property
    def predicted(self) -> stopping.Predicted | None:
        """The rule that stops by prediction, if there is one."""
        return next((rule for rule in self.rules if isinstance(rule, stopping.Predicted)), None)

    @property
    def compares(self) -> bool:
        """Whether a rule compares trials at the same step with each other."""
        return len(self.rules) > len(self.local_rules)

    def counts(self, metrics: Mapping[str, float]) -> bool:
        """Whether a measurement of these metrics keeps all limits; where one's metric is missing, no."""
        return all(each.metric in metrics and each.kept(metrics[each.metric]) for each in self.limits)

    @property
    def min_delta(self) -> float:
        """By how much a value must improve to reset the count that a patience rule reads."""
        return max(
            (rule.min_delta for rule in self.rules if isinstance(rule, stopping.Patience)), default=0.0
        )


_facts: OrderedDict[str, Facts] = OrderedDict()
_guard = threading.Lock()


def of(session: Session, study_key: str) -> Facts:
    """The facts of the study with this public id, which must exist."""
    with _guard:
        known = _facts.get(study_key)
        if known is not None:
            _facts.move_to_end(study_key)
            return known
    facts = parse(session.scalars(select(StudyRow.spec).where(StudyRow.key == study_key)).one())
    with _guard:
        _facts[study_key] = facts
        if len(_facts) > KEPT:
            _facts.popitem(last=False)
    return facts


def parse(document: dict[str, object]) -> Facts:
    """A stored specification as facts; the budget's target value stops a trial like a target rule."""
    spec = StudySpec.model_validate(document)
    rules: list[stopping.Rule] = []
    for rule in spec.stopping:
        match rule:
            case MedianRule():
                rules.append(stopping.Median(rule.min_trials, rule.grace))
            case PatienceRule():
                rules.append(stopping.Patience(rule.reports, rule.min_delta))
            case DivergenceRule():
                rules.append(stopping.Divergence(rule.bound, rule.factor))
            case TargetRule():
                rules.append(stopping.Target(rule.value))
            case PredictedRule():
                rules.append(stopping.Predicted(rule.risk, rule.min_trials, rule.protect, rule.grace))
    predicts = next((rule for rule in rules if isinstance(rule, stopping.Predicted)), None)
    if spec.budget.target is not None:
        rules.append(stopping.Target(spec.budget.target))
    return Facts(
        spec=spec,
        rules=tuple(rules),
        local_rules=tuple(rule for rule in rules if not isinstance(rule, stopping.Median)),
        safety_rules=tuple(
            rule for rule in rules if isinstance(rule, stopping.Divergence | stopping.Target)
        ),
        maximize=spec.metric.direction == "maximize",
        limits=specs.limits(spec),
        watched=tuple(
            dict.fromkeys((*spec.watched, *strategies.metrics(spec.strategy.name, spec.strategy.options)))
        ),
        checks=frozenset(prediction.judged(specs.fidelity(spec), predicts)) if predicts else frozenset(),
        features=Features.of(specs.space(spec)) if predicts else None,
        forks=strategies.forks(spec.strategy.name),
        along=Along.read(spec.strategy.options, specs.space(spec)),
    )
