"""Mistakes about the space: conditions, beliefs, constraints, forbidden combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from trimtab.domain import listed, numbers, refusal
from trimtab.draft import Draft
from trimtab.explain import did_you_mean, join, show
from trimtab.wire.base import ParamValue
from trimtab.wire.linear import Linear
from trimtab.wire.problems import FieldProblem
from trimtab.wire.space import (
    Bounds,
    FloatParameter,
    IntParameter,
    Parameter,
    SimplexParameter,
)

Place = tuple[str | int, ...]


def problems(draft: Draft) -> Iterator[FieldProblem]:
    """Every contradiction between the sound parts of a space."""
    checks = (
        _names,
        _conditions,
        _condition_cycles,
        _beliefs,
        _constraints,
        _forbidden,
    )
    return chain.from_iterable(check(draft) for check in checks)


def problem(*parts: str | int, message: str, suggestion: str = "") -> FieldProblem:
    """What is wrong at a place of the document."""
    return FieldProblem(pointer=join(parts), message=message, suggestion=suggestion)


def unknown(draft: Draft, name: str, *here: str | int) -> FieldProblem:
    """``name`` is not a parameter; what may have been meant."""
    group = draft.space.get(name)
    if isinstance(group, SimplexParameter):
        shares = ", ".join(f"{name}/{part}" for part in group.parts)
        return problem(*here, message=f"{name} is a simplex", suggestion=f"name its shares: {shares}")
    return problem(
        *here,
        message=f"{name} is not a parameter of this space",
        suggestion=_split_up(draft, name) or did_you_mean(name, draft.parameter_names, "parameters are"),
    )


def _split_up(draft: Draft, name: str) -> str:
    """Names may hold a minus and a slash, so ``a-b`` is one name: perhaps two were meant."""
    for at, sign in enumerate(name):
        left, right = name[:at], name[at + 1 :]
        if sign == "-" and left in draft.parameter_names:
            if right in draft.parameter_names or right.replace(".", "").isdigit():
                return f"write {left} - {right}, with spaces"
        elif sign == "/" and left in draft.parameter_names and right.replace(".", "").isdigit():
            return f"write {1 / float(right):g} * {left}" if float(right) else ""
    return ""


def _names(draft: Draft) -> Iterator[FieldProblem]:
    for name, parameter in draft.space.items():
        if isinstance(parameter, SimplexParameter):
            for at, part in enumerate(parameter.parts):
                if f"{name}/{part}" in draft.names:
                    yield problem(
                        "space",
                        name,
                        "parts",
                        at,
                        message=f"there is a parameter {name}/{part} already",
                        suggestion="rename one of them",
                    )


def wanted(parameter: Parameter) -> Iterator[tuple[str, list[ParamValue]]]:
    """The conditions of a parameter: names, each with the values that make it active."""
    for parent, value in parameter.when.items():
        yield parent, value if isinstance(value, list) else [value]


def _conditions(draft: Draft) -> Iterator[FieldProblem]:
    for name, parameter in draft.space.items():
        for parent, values in wanted(parameter):
            here = ("space", name, "when", parent)
            if parent == name:
                yield problem(*here, message=f"{name} cannot depend on itself")
            elif parent not in draft.parameter_names:
                yield unknown(draft.without(name), parent, *here)
            elif not values:
                yield problem(*here, message=f"an empty list is never true: {name} would never be active")
            elif parent in draft.parameters:
                many = isinstance(parameter.when[parent], list)
                yield from _condition_values(here, parent, draft.parameters[parent], values, many)


def _condition_values(
    here: Place, parent: str, domain: Parameter, values: list[ParamValue], many: bool
) -> Iterator[FieldProblem]:
    if isinstance(domain, FloatParameter) and domain.step is None:
        yield problem(
            *here,
            message=f"{parent} is a continuous range: it has no single value to wait for",
            suggestion="depend on an int, ordered, categorical or bool parameter",
        )
        return
    yield from _never(here, parent, domain, values, many)


def _never(
    here: Place, name: str, domain: Parameter, values: list[ParamValue], many: bool
) -> Iterator[FieldProblem]:
    """Values that a parameter never has."""
    for at, value in enumerate(values):
        reason = refusal(domain, value)
        if reason:
            where: Place = (*here, at) if many else here
            choices = [str(choice) for choice in listed(domain) or [] if isinstance(choice, str)]
            suggestion = did_you_mean(value, choices) if isinstance(value, str) and choices else ""
            yield problem(
                *where,
                message=f"{name} is never {show(value)}: it {reason.split(', not')[0]}",
                suggestion=suggestion if suggestion.startswith("did") else "",
            )


def _condition_cycles(draft: Draft) -> Iterator[FieldProblem]:
    follows = {name: tuple(parameter.when) for name, parameter in draft.space.items()}
    for start, path in circles(follows):
        yield problem(
            "space",
            start,
            "when",
            message="conditions go round in a circle: " + " needs ".join([*path, start]),
            suggestion="take one of these conditions away",
        )


def circles(follows: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, list[str]]]:
    """One way from a name back to itself for each circle."""
    reported: set[str] = set()
    for start in follows:
        path = _path_back(follows, start)
        if len(path) > 1 and not reported.intersection(path):
            reported.update(path)
            yield start, path


def _path_back(follows: Mapping[str, Sequence[str]], start: str) -> list[str]:
    """A way from a name back to itself; empty if there is none."""
    stack: list[list[str]] = [[start]]
    seen: set[str] = set()
    while stack:
        path = stack.pop()
        for parent in follows[path[-1]]:
            if parent == start:
                return path
            if parent in follows and parent not in seen:
                seen.add(parent)
                stack.append([*path, parent])
    return []


def _beliefs(draft: Draft) -> Iterator[FieldProblem]:
    for name, parameter in draft.space.items():
        if not isinstance(parameter, FloatParameter | IntParameter) or parameter.belief is None:
            continue
        if not parameter.belief.told:  # the service asks the law
            continue
        low, high = parameter.belief.range
        if high < parameter.low or low > parameter.high:
            yield problem(
                "space",
                name,
                "belief",
                "near" if parameter.belief.near is not None else "between",
                message=f"lies outside of {name}'s range, {parameter.low:g} to {parameter.high:g}",
                suggestion="widen the range, or move the belief",
            )


def _constraints(draft: Draft) -> Iterator[FieldProblem]:
    for at, constraint in draft.constraints.items():
        reaches: list[tuple[float, float]] = []
        for name, coefficient in constraint.terms.items():
            if name not in draft.parameter_names:
                yield unknown(draft, name, "constraints", at)
            elif name in draft.parameters:
                reach = numbers(draft.parameters[name])
                if reach is None:
                    yield problem(
                        "constraints",
                        at,
                        message=f"{name} is no number, so it cannot be added up",
                        suggestion="say which values do not go together under forbid",
                    )
                else:
                    ends = sorted((coefficient * reach[0], coefficient * reach[1]))
                    reaches.append((ends[0], ends[1]))
        if len(reaches) == len(constraint.terms):
            yield from _never_holds(at, constraint, reaches)


def _never_holds(at: int, constraint: Linear, reaches: list[tuple[float, float]]) -> Iterator[FieldProblem]:
    """A constraint that no values satisfy, whatever the others say."""
    low, high = (sum(reach[end] for reach in reaches) for end in (0, 1))
    slack = 1e-9 * (abs(constraint.bound) + max(abs(low), abs(high)))
    beyond = ""
    if constraint.relation != ">=" and low > constraint.bound + slack:
        beyond = f"at least {low:g}"
    elif constraint.relation != "<=" and high < constraint.bound - slack:
        beyond = f"at most {high:g}"
    if beyond:
        yield problem(
            "constraints",
            at,
            message=f"can never hold: with all names on the left, that side is {beyond}, "
            f"and the right one {constraint.bound:g}",
            suggestion="change the constraint, or the ranges of its parameters",
        )


def _forbidden(draft: Draft) -> Iterator[FieldProblem]:
    for at, clauses in draft.clauses.items():
        for name, value in clauses.items():
            here = ("forbid", at, name)
            if name not in draft.parameter_names:
                yield unknown(draft, name, *here)
            elif name in draft.parameters:
                domain = draft.parameters[name]
                if isinstance(value, Bounds):
                    yield from _bounds(here, name, domain, value)
                elif isinstance(value, list) and not value:
                    yield problem(*here, message="an empty list: the combination would never occur")
                elif (
                    isinstance(domain, FloatParameter) and domain.step is None and domain.low < domain.high
                ):
                    yield problem(
                        *here,
                        message=f"{name} is a continuous range: it hardly ever has an exact value",
                        suggestion=f"say {{above: ..., below: ...}} for the values of {name}",
                    )
                else:
                    many = isinstance(value, list)
                    yield from _never(
                        here, name, domain, value if isinstance(value, list) else [value], many
                    )


def _bounds(here: Place, name: str, domain: Parameter, bounds: Bounds) -> Iterator[FieldProblem]:
    reach = numbers(domain)
    if reach is None:
        yield problem(
            *here,
            message=f"{name} is no number: nothing is above or below",
            suggestion="list the values",
        )
        return
    for word, outside in (
        ("above", bounds.above is not None and bounds.above >= reach[1]),
        ("below", bounds.below is not None and bounds.below <= reach[0]),
    ):
        if outside:
            yield problem(
                *here,
                word,
                message=f"{name} is never {word} that: it is from {reach[0]:g} to {reach[1]:g}",
                suggestion="take the combination away, or move the bound",
            )
