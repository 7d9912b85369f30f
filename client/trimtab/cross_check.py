"""Mistakes that no field shows alone: what the parts of a study say about each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from trimtab.domain import listed, refusal, same
from trimtab.draft import Draft
from trimtab.explain import did_you_mean, join, show
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import FixedParameter, FloatParameter, Parameter
from trimtab.wire.study import DivergenceRule, MedianRule, PatienceRule, QueuedConfig, TargetRule


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """Every contradiction between the sound parts of a study."""
    checks = (_conditions, _cycles, _fidelity, _budget, _stopping, _resources, _enqueue)
    return chain.from_iterable(check(draft) for check in checks)


def _problem(*parts: str | int, message: str, suggestion: str = "") -> FieldProblem:
    return FieldProblem(pointer=join(parts), message=message, suggestion=suggestion)


def _wanted(parameter: Parameter) -> Iterator[tuple[str, list[ParamValue]]]:
    for parent, value in parameter.when.items():
        yield parent, value if isinstance(value, list) else [value]


def _conditions(draft: Draft) -> Iterator[FieldProblem]:
    for name, parameter in draft.space.items():
        for parent, values in _wanted(parameter):
            here = ("space", name, "when", parent)
            if parent == name:
                yield _problem(*here, message=f"{name} cannot depend on itself")
            elif parent not in draft.names:
                others = [other for other in draft.names if other != name]
                yield _problem(
                    *here,
                    message=f"{parent} is not a parameter of this space",
                    suggestion=did_you_mean(parent, others, "parameters are"),
                )
            elif not values:
                yield _problem(*here, message=f"an empty list is never true: {name} would never be active")
            elif parent in draft.space:
                yield from _condition_values(here, parent, draft.space[parent], parameter, values)


def _condition_values(
    here: tuple[str, ...], parent: str, domain: Parameter, parameter: Parameter, values: list[ParamValue]
) -> Iterator[FieldProblem]:
    if isinstance(domain, FloatParameter) and domain.step is None:
        yield _problem(
            *here,
            message=f"{parent} is a continuous range: it has no single value to wait for",
            suggestion="depend on an int, ordered, categorical or bool parameter",
        )
        return
    many = isinstance(parameter.when[parent], list)
    for at, value in enumerate(values):
        reason = refusal(domain, value)
        if reason:
            where: tuple[str | int, ...] = (*here, at) if many else here
            choices = [str(choice) for choice in listed(domain) or [] if isinstance(choice, str)]
            suggestion = did_you_mean(value, choices) if isinstance(value, str) and choices else ""
            yield _problem(
                *where,
                message=f"{parent} is never {show(value)}: it {reason.split(', not')[0]}",
                suggestion=suggestion if suggestion.startswith("did") else "",
            )


def _cycles(draft: Draft) -> Iterator[FieldProblem]:
    reported: set[str] = set()
    for start in draft.space:
        path = _path_back(draft.space, start)
        if len(path) > 1 and not reported.intersection(path):
            reported.update(path)
            yield _problem(
                "space",
                start,
                "when",
                message="conditions go round in a circle: " + " needs ".join([*path, start]),
                suggestion="take one of these conditions away",
            )


def _path_back(space: Mapping[str, Parameter], start: str) -> list[str]:
    """A way from a parameter along its conditions back to itself; empty if there is none."""
    stack: list[list[str]] = [[start]]
    seen: set[str] = set()
    while stack:
        path = stack.pop()
        for parent in space[path[-1]].when:
            if parent == start:
                return path
            if parent in space and parent not in seen:
                seen.add(parent)
                stack.append([*path, parent])
    return []


def _budget(draft: Draft) -> Iterator[FieldProblem]:
    budget, fidelity, resources = draft.budget, draft.fidelity, draft.resources
    if budget is None:
        return
    if fidelity is not None and budget.fidelity is not None and budget.fidelity < fidelity.min:
        yield _problem(
            "budget",
            "fidelity",
            message=f"{budget.fidelity} {fidelity.unit} in all do not pay for the shortest training "
            f"({fidelity.min} {fidelity.unit})",
            suggestion=f"allow at least {fidelity.min}, better some {20 * fidelity.max}",
        )
    if budget.trials is not None and len(draft.enqueue) > budget.trials:
        yield _problem(
            "budget",
            "trials",
            message=f"{budget.trials} trials are too few for {len(draft.enqueue)} enqueued configurations",
            suggestion=f"allow more than {len(draft.enqueue)} trials",
        )
    if budget.gpu_hours is not None and resources is not None and resources.gpus == 0:
        yield _problem(
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
            yield _problem(
                *here,
                message=f"a {rule.rule} rule is there already (number {seen[rule.rule] + 1} of the list)",
                suggestion="keep one of them",
            )
        seen.setdefault(rule.rule, at)
        if isinstance(rule, MedianRule):
            if fidelity is not None and rule.grace >= fidelity.max:
                yield _problem(
                    *here,
                    "grace",
                    message=f"never stops anything: trials end at {fidelity.max} {fidelity.unit}",
                    suggestion=f"say less than {fidelity.max}",
                )
            limit = None if budget is None else budget.trials
            if "min_trials" in rule.model_fields_set and limit is not None and rule.min_trials >= limit:
                yield _problem(
                    *here,
                    "min_trials",
                    message=f"never stops anything: {rule.min_trials} other trials must come first, "
                    f"and the budget allows {limit} in all",
                    suggestion="say less, or allow more trials",
                )
        elif isinstance(rule, PatienceRule) and fidelity is not None:
            points = fidelity.max // fidelity.report_every
            if rule.reports >= points:
                yield _problem(
                    *here,
                    "reports",
                    message=f"never stops anything: a full training makes {points} measurements "
                    f"(max / report_every)",
                    suggestion=f"say less than {points}" if points > 1 else "report more often",
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
                yield _problem(
                    *where,
                    message=f"{target:g} counts as diverged: the divergence rule's bound is {bound:g} and "
                    f"{'larger' if maximize else 'smaller'} is better",
                    suggestion="set the bound to a value worse than the target, or check metric/direction",
                )


def _fidelity(draft: Draft) -> Iterator[FieldProblem]:
    fidelity, checkpoints = draft.fidelity, draft.checkpoints
    if fidelity is not None and "min" in fidelity.model_fields_set and fidelity.report_every > fidelity.min:
        yield _problem(
            "fidelity",
            "report_every",
            message=f"a training of min ({fidelity.min}) {fidelity.unit} ends before its first measurement "
            f"at {fidelity.report_every}",
            suggestion=f"report every {fidelity.min} or more often, or raise min",
        )
    every = None if checkpoints is None else checkpoints.every
    if fidelity is not None and every is not None and every > fidelity.max:
        yield _problem(
            "checkpoints",
            "every",
            message=f"never happens: trials end at {fidelity.max} {fidelity.unit}",
            suggestion="leave it out to save at the end of each run only",
        )


def _resources(draft: Draft) -> Iterator[FieldProblem]:
    if draft.resources is not None:
        for name in draft.resources.custom:
            if name.lower() in ("cpu", "cpus", "gpu", "gpus"):
                yield _problem(
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
            yield _problem(
                "enqueue", at, "label", message=f"{show(config.label)} labels another one already"
            )
        labels.add(config.label or "")
        for name in config.params:
            if name not in draft.names:
                yield _problem(
                    "enqueue",
                    at,
                    "params",
                    name,
                    message=f"{name} is not a parameter of this space",
                    suggestion=did_you_mean(name, draft.names, "parameters are"),
                )
        if draft.space_is_whole:
            yield from _configuration(draft.space, config, ("enqueue", at, "params"))
        else:
            yield from _values(draft.space, config, ("enqueue", at, "params"))


def _configuration(
    space: Mapping[str, Parameter], config: QueuedConfig, here: tuple[str | int, ...]
) -> Iterator[FieldProblem]:
    yield from _values(space, config, here)
    for name, parameter in space.items():
        active = is_active(space, name, config.params)
        if name in config.params and not active:
            conditions = ", ".join(f"{parent} = {show_choice(v)}" for parent, v in parameter.when.items())
            yield _problem(
                *here,
                name,
                message=f"{name} is not active in this configuration: it needs {conditions}",
                suggestion="leave it out",
            )
        elif active and name not in config.params and not isinstance(parameter, FixedParameter):
            if any(parent not in config.params and parent in space for parent in parameter.when):
                continue
            yield _problem(*here, name, message=f"{name} is missing", suggestion=f"add {name}: ...")


def _values(
    space: Mapping[str, Parameter], config: QueuedConfig, here: tuple[str | int, ...]
) -> Iterator[FieldProblem]:
    for name, value in config.params.items():
        reason = refusal(space[name], value) if name in space else ""
        if reason:
            yield _problem(*here, name, message=f"{name} {reason}")


def is_active(space: Mapping[str, Parameter], name: str, params: Mapping[str, ParamValue]) -> bool:
    """Whether all conditions of a parameter hold, those of the parameters it waits for included.

    Conditions that go round in a circle never hold.
    """
    return _active(space, name, params, frozenset())


def _active(
    space: Mapping[str, Parameter], name: str, params: Mapping[str, ParamValue], above: frozenset[str]
) -> bool:
    if name in above or name not in space:
        return False
    for parent, values in _wanted(space[name]):
        domain = space.get(parent)
        value = domain.value if isinstance(domain, FixedParameter) else params.get(parent)
        if value is None or not any(same(value, wanted) for wanted in values):
            return False
        if not _active(space, parent, params, above | {name}):
            return False
    return True


def show_choice(value: ParamValue | list[ParamValue]) -> str:
    """One value, or "a or b"."""
    return " or ".join(show(item) for item in value) if isinstance(value, list) else show(value)
