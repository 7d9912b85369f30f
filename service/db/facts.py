"""What a study's specification says that reports, leases and ends need: parsed once, kept in memory.

Of a specification only the budget's limits and ``prune`` ever change (a person extends a study, or has its
whole space searched again), and they are not read from here; so what is kept under a study's public id
stays true.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from search import stopping
from service.db.models import StudyRow
from trimtab.wire.study import DivergenceRule, MedianRule, PatienceRule, StudySpec, TargetRule

KEPT = 256


@dataclass(frozen=True, slots=True)
class Facts:
    """A study's specification and its stopping rules in search's words."""

    spec: StudySpec
    rules: Sequence[stopping.Rule]
    local_rules: Sequence[stopping.Rule]
    """Those that look at the trial alone."""
    safety_rules: Sequence[stopping.Rule]
    """Those that hold for a trial that is to be trained to the end, too: divergence and target."""
    maximize: bool

    @property
    def compares(self) -> bool:
        """Whether a rule compares trials with each other."""
        return len(self.rules) > len(self.local_rules)

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
    )
