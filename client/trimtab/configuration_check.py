"""Mistakes about a configuration: names, values, activity, shares, constraints, forbidden combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trimtab.domain import refusal, same
from trimtab.draft import Draft
from trimtab.explain import show
from trimtab.space_check import Place, problem, unknown, wanted
from trimtab.wire.base import ParamValue
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import Bounds, Clause, FixedParameter, PlainParameter, SimplexParameter
from trimtab.wire.study import QueuedConfig

_MILLION = 10**6
_TOLERANCE = 1e-6
"""By how much an equality may be missed, relative to the size of its terms; the service is exact."""


def problems(draft: Draft, config: QueuedConfig, here: Place) -> Iterator[FieldProblem]:
    """Everything that makes a configuration none of the space."""
    for name in config.params:
        if name not in draft.parameter_names:
            yield unknown(draft, name, *here, name)
    yield from _values(draft.parameters, config, here)
    if draft.space_is_whole:
        yield from _activity(draft.parameters, config, here)
        yield from _shares(draft, config, here)
        yield from _constraints(draft, config, here)
        yield from _forbidden(draft, config, here)


def _values(
    space: Mapping[str, PlainParameter], config: QueuedConfig, here: Place
) -> Iterator[FieldProblem]:
    for name, value in config.params.items():
        reason = refusal(space[name], value) if name in space else ""
        if reason:
            yield problem(*here, name, message=f"{name} {reason}")


def _activity(
    space: Mapping[str, PlainParameter], config: QueuedConfig, here: Place
) -> Iterator[FieldProblem]:
    for name, parameter in space.items():
        active = is_active(space, name, config.params)
        if name in config.params and not active:
            conditions = ", ".join(f"{parent} = {show_choice(v)}" for parent, v in parameter.when.items())
            yield problem(
                *here,
                name,
                message=f"{name} is not active in this configuration: it needs {conditions}",
                suggestion="leave it out",
            )
        elif active and name not in config.params and not isinstance(parameter, FixedParameter):
            if any(parent not in config.params and parent in space for parent in parameter.when):
                continue
            yield problem(*here, name, message=f"{name} is missing", suggestion=f"add {name}: ...")


def _shares(draft: Draft, config: QueuedConfig, here: Place) -> Iterator[FieldProblem]:
    for name, parameter in draft.space.items():
        if not isinstance(parameter, SimplexParameter):
            continue
        names = [f"{name}/{part}" for part in parameter.parts]
        values = [config.params.get(share) for share in names]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) < len(values):
            continue
        rough = [at for at, value in enumerate(numbers) if round(value * _MILLION) / _MILLION != value]
        for at in rough:
            yield problem(
                *here,
                names[at],
                message=f"{names[at]} has more than six decimals: {show(numbers[at])}",
                suggestion=f"write {round(numbers[at], 6)!r}",
            )
        total = sum(round(value * _MILLION) for value in numbers)
        if not rough and total != _MILLION:
            yield problem(
                *here,
                names[-1],
                message=f"the shares of {name} sum to {total / _MILLION!r}, not to 1",
                suggestion=f"change some by {abs(_MILLION - total) / _MILLION!r} in all",
            )


def _constraints(draft: Draft, config: QueuedConfig, here: Place) -> Iterator[FieldProblem]:
    for constraint in draft.constraints.values():
        values = {name: config.params.get(name) for name in constraint.terms}
        terms = [
            coefficient * value
            for name, coefficient in constraint.terms.items()
            if isinstance(value := values[name], int | float) and not isinstance(value, bool)
        ]
        if len(terms) < len(values):
            continue
        left, slack = sum(terms), _TOLERANCE * (sum(map(abs, terms)) + abs(constraint.bound))
        excess = left - constraint.bound
        excess = {"<=": excess, ">=": -excess, "==": abs(excess)}[constraint.relation]
        if excess > slack:
            yield problem(
                *here,
                next(iter(constraint.terms)),
                message=f'breaks "{constraint.text}": with all names on the left, that side is {left:g}, '
                f"not {constraint.relation} {constraint.bound:g}",
                suggestion=f"change {' or '.join(constraint.terms)}",
            )


def _forbidden(draft: Draft, config: QueuedConfig, here: Place) -> Iterator[FieldProblem]:
    for at, combination in draft.forbid.items():
        if all(name in config.params and _is_in(config.params[name], v) for name, v in combination.items()):
            yield problem(
                *here,
                next(iter(combination)),
                message=f"is forbidden by combination number {at + 1} of the list under forbid",
                suggestion=f"change {' or '.join(combination)}",
            )


def _is_in(value: ParamValue, given: Clause) -> bool:
    if not isinstance(given, Bounds):
        return any(same(value, one) for one in (given if isinstance(given, list) else [given]))
    if isinstance(value, str | bool):
        return False
    return (given.above is None or value > given.above) and (given.below is None or value < given.below)


def is_active(space: Mapping[str, PlainParameter], name: str, params: Mapping[str, ParamValue]) -> bool:
    """Whether all conditions of a parameter hold, those of the parameters it waits for included.

    Conditions that go round in a circle never hold.
    """
    return _active(space, name, params, frozenset())


def _active(
    space: Mapping[str, PlainParameter], name: str, params: Mapping[str, ParamValue], above: frozenset[str]
) -> bool:
    if name in above or name not in space:
        return False
    for parent, values in wanted(space[name]):
        domain = space.get(parent)
        value = domain.value if isinstance(domain, FixedParameter) else params.get(parent)
        if value is None or not any(same(value, one) for one in values):
            return False
        if not _active(space, parent, params, above | {name}):
            return False
    return True


def show_choice(value: ParamValue | list[ParamValue]) -> str:
    """One value, or "a or b"."""
    return " or ".join(show(item) for item in value) if isinstance(value, list) else show(value)
