"""Mistakes that no field shows alone: what the parts of a study say about each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from trimtab import configuration_check
from trimtab.draft import Draft
from trimtab.explain import show
from trimtab.space_check import problem
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import DivergenceRule, MedianRule, PatienceRule, PredictedRule, TargetRule


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """Every contradiction between the sound parts of a study."""
    checks = (_fidelity, _budget, _stopping, _resources, _enqueue, _warm_start)
    return chain.from_iterable(check(draft) for check in checks)


def _budget(draft: Draft) -> Iterator[FieldProblem]:
    budget, fidelity, resources = draft.budget, draft.fidelity, draft.resources
    if budget is None:
        return
    if fidelity is not None and budget.fidelity is not None and budget.fidelity < fidelity.min:
        yield problem(
            "budget",
            "fidelity",
            message=f"{budget.fidelity} {fidelity.unit} in all do not pay for the shortest training "
            f"({fidelity.min} {fidelity.unit})",
            suggestion=f"allow at least {fidelity.min}, better some {20 * fidelity.max}",
        )
    if budget.trials is not None and len(draft.enqueue) > budget.trials:
        yield problem(
            "budget",
            "trials",
            message=f"{budget.trials} trials are too few for {len(draft.enqueue)} enqueued configurations",
            suggestion=f"allow more than {len(draft.enqueue)} trials",
        )
    if budget.gpu_hours is not None and resources is not None and resources.gpus == 0:
        yield problem(
            "budget",
            "gpu_hours",
            message="never used up: a trial of this study holds no GPU",
            suggestion="say resources: {gpus: 1}, or limit something else",
        )


def _stopping(draft: Draft) -> Iterator[FieldProblem]:
    seen: dict[str, int] = {}
    fidelity, budget = draft.fidelity, draft.budget
    for at, rule in draft.stopping.items():
        here = ("stopping", at)
        if rule.rule in seen:
            yield problem(
                *here,
                message=f"a {rule.rule} rule is there already (number {seen[rule.rule] + 1} of the list)",
                suggestion="keep one of them",
            )
        seen.setdefault(rule.rule, at)
        if (
            isinstance(rule, MedianRule | PredictedRule)
            and fidelity is not None
            and (rule.grace or 0) >= fidelity.max
        ):
            yield problem(
                *here,
                "grace",
                message=f"never stops anything: trials end at {fidelity.max} {fidelity.unit}",
                suggestion=f"say less than {fidelity.max}",
            )
        if isinstance(rule, PatienceRule) and fidelity is not None:
            points = fidelity.max // fidelity.report_every
            if rule.reports >= points:
                yield problem(
                    *here,
                    "reports",
                    message=f"never stops anything: a full training makes {points} measurements "
                    f"(max / report_every)",
                    suggestion=f"say less than {points}" if points > 1 else "report more often",
                )
        elif (
            isinstance(rule, PredictedRule)
            and fidelity is not None
            and max(fidelity.min, fidelity.report_every) >= fidelity.max
        ):
            yield problem(
                *here,
                message=f"never stops anything: nothing is measured between min and max ({fidelity.max})",
                suggestion="set min and report_every to a tenth of max or less",
            )
        if isinstance(rule, MedianRule | PredictedRule):
            limit = None if budget is None else budget.trials
            if "min_trials" in rule.model_fields_set and limit is not None and rule.min_trials >= limit:
                yield problem(
                    *here,
                    "min_trials",
                    message=f"never stops anything: {rule.min_trials} other trials must come first, "
                    f"and the budget allows {limit} in all",
                    suggestion="say less, or allow more trials",
                )
    yield from _target_beyond_bound(draft)


def _target_beyond_bound(draft: Draft) -> Iterator[FieldProblem]:
    if draft.metric is None:
        return
    maximize = draft.metric.direction == "maximize"
    bounds: list[float] = []
    named: dict[tuple[str | int, ...], float] = {}
    for at, rule in draft.stopping.items():
        if isinstance(rule, DivergenceRule) and rule.bound is not None:
            bounds.append(rule.bound)
        elif isinstance(rule, TargetRule):
            named["stopping", at, "value"] = rule.value
    if draft.budget is not None and draft.budget.target is not None:
        named["budget", "target"] = draft.budget.target
    for where, target in named.items():
        for bound in bounds:
            if (target < bound) if maximize else (target > bound):
                yield problem(
                    *where,
                    message=f"{target:g} counts as diverged: the divergence rule's bound is {bound:g} and "
                    f"{'larger' if maximize else 'smaller'} is better",
                    suggestion="set the bound to a value worse than the target, or check metric/direction",
                )


def _fidelity(draft: Draft) -> Iterator[FieldProblem]:
    fidelity, checkpoints = draft.fidelity, draft.checkpoints
    if fidelity is not None and "min" in fidelity.model_fields_set and fidelity.report_every > fidelity.min:
        yield problem(
            "fidelity",
            "report_every",
            message=f"a training of min ({fidelity.min}) {fidelity.unit} ends before its first measurement "
            f"at {fidelity.report_every}",
            suggestion=f"report every {fidelity.min} or more often, or raise min",
        )
    every = None if checkpoints is None else checkpoints.every
    if fidelity is not None and every is not None and every > fidelity.max:
        yield problem(
            "checkpoints",
            "every",
            message=f"never happens: trials end at {fidelity.max} {fidelity.unit}",
            suggestion="leave it out to save at the end of each run only",
        )


def _resources(draft: Draft) -> Iterator[FieldProblem]:
    if draft.resources is not None:
        for name in draft.resources.custom:
            if name.lower() in ("cpu", "cpus", "gpu", "gpus"):
                yield problem(
                    "resources",
                    "custom",
                    name,
                    message=f"{name} is no custom resource",
                    suggestion=f"say resources: {{{name.lower().rstrip('s')}s: ...}}",
                )


def _enqueue(draft: Draft) -> Iterator[FieldProblem]:
    labels: set[str] = set()
    for at, config in draft.enqueue.items():
        if config.label is not None and config.label in labels:
            yield problem(
                "enqueue", at, "label", message=f"{show(config.label)} labels another one already"
            )
        labels.add(config.label or "")
        yield from configuration_check.problems(draft, config, ("enqueue", at, "params"))


def _warm_start(draft: Draft) -> Iterator[FieldProblem]:
    named = [] if draft.warm_start is None else draft.warm_start.studies
    for at, study in enumerate(named):
        if study in named[:at]:
            yield problem(
                "warm_start",
                "studies",
                at,
                message=f"{study} is named before (number {named.index(study) + 1} of the list)",
                suggestion="keep one of them",
            )
