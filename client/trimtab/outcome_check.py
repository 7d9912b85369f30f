"""Mistakes about several objectives and about limits on metrics.

Whatever decides by the one best value of a trial makes no sense where there are several objectives. Limits
leave it sense: the best value is then the best one that keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from trimtab.draft import Draft
from trimtab.space_check import problem
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import DivergenceRule

_BY_FRONT = "trials of several objectives are compared by all of them"


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """What is said twice, what contradicts itself, and what several objectives leave no sense."""
    return chain(_named_twice(draft), _limits(draft), _single_best(draft) if draft.objectives else ())


def _named_twice(draft: Draft) -> Iterator[FieldProblem]:
    seen = {} if draft.metric is None else {draft.metric.name: "under metric"}
    for at, goal in draft.objectives.items():
        if goal.name in seen:
            yield problem(
                "objectives",
                at,
                "name",
                message=f"{goal.name} is an objective already ({seen[goal.name]})",
                suggestion="keep one of them; to bound it, name it under limits",
            )
        seen.setdefault(goal.name, f"number {at + 1} of the list")


def _limits(draft: Draft) -> Iterator[FieldProblem]:
    seen: dict[tuple[str, bool], int] = {}
    for at, limit in draft.limits.items():
        side = "at_most" if limit.upper else "at_least"
        first = seen.setdefault((limit.metric, limit.upper), at)
        if first != at:
            yield problem(
                "limits",
                at,
                side,
                message=f"{limit.metric} has an {side} already (number {first + 1} of the list)",
                suggestion="keep one of them",
            )
            continue
        other = seen.get((limit.metric, not limit.upper))
        if other is None:
            continue
        low, high = sorted((limit, draft.limits[other]), key=lambda each: each.upper)
        if low.bound > high.bound:
            yield problem(
                "limits",
                at,
                side,
                message=f"no {limit.metric} is at least {low.bound:g} and at most {high.bound:g}",
                suggestion="exchange the two",
            )


def _single_best(draft: Draft) -> Iterator[FieldProblem]:
    for at, rule in draft.stopping.items():
        if not isinstance(rule, DivergenceRule):
            yield problem(
                "stopping",
                at,
                message=f"{_BY_FRONT}: a {rule.rule} rule would stop by one of them",
                suggestion="take it away; divergence alone can stop them",
            )
    if draft.budget is not None and draft.budget.target is not None:
        yield problem(
            "budget",
            "target",
            message=f"{_BY_FRONT}: no value of one is good enough",
            suggestion="say under limits what a metric must keep, and limit trials or fidelity",
        )
    if draft.prune:
        yield problem(
            "prune",
            message=f"{_BY_FRONT}: what matters little for one of them may matter for another",
            suggestion="leave prune out",
        )
    if draft.warm_start is not None and draft.warm_start.studies:
        yield problem(
            "warm_start",
            "studies",
            message=f"{_BY_FRONT}: which earlier study to follow is judged by one",
            suggestion="enqueue the earlier studies' best configurations instead",
        )
