"""Reading the wire's ``space`` JSON, with every mistake found at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.domains import MAX_INT, Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole
from search.errors import Mistake, SearchError, did_you_mean, pointer
from search.parameters import SHARE_UNITS, Parameter, Simplex
from search.parsing_rules import parse_belief, parse_constraints, parse_forbidden, parse_tie, tie_cycles
from search.space import SearchSpace

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "float": ("low", "high", "log", "step", "belief", "tie"),
    "int": ("low", "high", "log", "step", "belief"),
    "categorical": ("choices",),
    "ordered": ("values", "tie"),
    "bool": (),
    "fixed": ("value", "tie"),
    "simplex": ("parts", "min"),
}
_OPTIONAL = frozenset({"log", "step", "belief", "tie", "min"})


def parse_space(
    document: Mapping[str, Any],
    constraints: Sequence[Mapping[str, Any]],
    forbid: Sequence[Mapping[str, Any]],
) -> SearchSpace:
    """The space that the arguments of :meth:`SearchSpace.from_json` describe.

    Raises :class:`~search.errors.SearchError` with every mistake found.
    """
    mistakes: list[Mistake] = []
    if not document:
        mistakes.append(Mistake("/space", "the space has no parameters"))
    domains: dict[str, Domain] = {}
    origins: dict[str, str] = {}
    """The name in the document that each parameter comes from."""
    simplexes: list[Simplex] = []
    for name, data in document.items():
        made = _domain(name, data, mistakes)
        if isinstance(made, Simplex):
            simplexes.append(made)
        for own in made.shares if isinstance(made, Simplex) else (name,):
            if own in origins:
                mistakes.append(
                    Mistake(
                        pointer("space", name), f"{own} is the name of two parameters", "rename one of them"
                    )
                )
            elif made is not None:
                domains[own] = made.domain if isinstance(made, Simplex) else made
            origins[own] = name
    parameters: list[Parameter] = []
    for name, domain in domains.items():
        data = document[origins[name]]
        belief, tie = data.get("belief"), data.get("tie")
        found: list[Mistake] = []
        parameter = Parameter(
            name,
            domain,
            _conditions(origins[name], data.get("when") or {}, origins, domains, found),
            data.get("doc") or "",
            None if belief is None else parse_belief(name, belief, domain, found),
            None if tie is None else parse_tie(name, tie, origins, domains, found),
        )
        parameters.append(parameter)
        # The shares of a simplex all have its conditions, and its mistakes.
        mistakes.extend(mistake for mistake in found if mistake not in mistakes)
    mistakes.extend(_cycles(parameters, origins))
    mistakes.extend(tie_cycles(parameters))
    groups = {simplex.name: simplex.shares for simplex in simplexes}
    linear = parse_constraints(constraints, origins, domains, groups, mistakes)
    forbidden = parse_forbidden(forbid, origins, domains, groups, mistakes)
    if mistakes:
        raise SearchError(mistakes)
    return SearchSpace(tuple(parameters), tuple(simplexes), linear, forbidden)


def _domain(name: str, data: Mapping[str, Any], mistakes: list[Mistake]) -> Domain | Simplex | None:
    """The domain of one parameter; None, and mistakes, if it is described wrongly."""
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        mistakes.append(
            Mistake(
                pointer("space", name, "type"),
                f"{kind!r} is not a type of parameter",
                did_you_mean(str(kind), _FIELDS),
            )
        )
        return None
    found: list[Mistake] = []
    allowed = ("type", "when", "doc", *_FIELDS[kind])
    found.extend(
        Mistake(
            pointer("space", name, field),
            f"a parameter of type {kind} has no {field}",
            did_you_mean(field, allowed),
        )
        for field in data
        if field not in allowed
    )
    required = [f for f in _FIELDS[kind] if f not in _OPTIONAL]
    found.extend(
        Mistake(pointer("space", name, field), f"{field} is missing")
        for field in required
        if data.get(field) is None
    )
    domain: Domain | Simplex | None = None
    if not found:
        if kind in ("float", "int"):
            domain = _range(name, kind, data, found)
        elif kind == "bool":
            domain = Choice((False, True), "bool")
        elif kind == "fixed":
            domain = Fixed(data["value"])
        elif kind == "simplex":
            domain = _simplex(name, data, found)
        elif kind == "ordered":
            domain = _choice(name, Choice(tuple(data["values"]), "ordered"), "values", found)
        else:
            domain = _choice(name, Choice(tuple(data["choices"])), "choices", found)
    mistakes.extend(found)
    return None if found else domain


def _range(name: str, kind: str, data: Mapping[str, Any], mistakes: list[Mistake]) -> Domain:
    low, high, step, log = data["low"], data["high"], data.get("step"), bool(data.get("log", False))

    def wrong(field: str, message: str, suggestion: str = "") -> None:
        mistakes.append(Mistake(pointer("space", name, field), message, suggestion))

    whole = kind == "int"
    for field, value in (("low", low), ("high", high), ("step", step)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            wrong(field, f"{field} is {value!r}, which is not a {'whole ' if whole else ''}number")
        elif whole and abs(value) > MAX_INT:
            wrong(field, f"{field} is beyond {MAX_INT:.0e}", "use a float on a log scale")
        elif not math.isfinite(value):
            wrong(field, f"{field} is not finite")
    if mistakes:
        return Fixed(0)
    if low > high:
        wrong("low", f"low ({low:g}) must not exceed high ({high:g})")
    if log and low <= 0:
        wrong("low", f"a log scale needs low > 0, not {low:g}")
    if step is not None and log:
        wrong("step", "log and step exclude each other: a grid is even on the linear scale")
    if step is not None and step <= 0:
        wrong("step", f"step must be positive, not {step:g}")
    if whole:
        return Whole(low, high, log, 1 if step is None else step)
    if step is None:
        return Real(float(low), float(high), log)
    if not mistakes and (high - low) / step > MAX_INT:
        wrong("step", f"the grid has more than {MAX_INT:.0e} values", "leave the step out")
    return RealGrid(float(low), float(high), float(step))


def _simplex(name: str, data: Mapping[str, Any], mistakes: list[Mistake]) -> Simplex:
    parts, low = tuple(data["parts"]), data.get("min") or 0.0

    def wrong(field: str, message: str, suggestion: str = "") -> None:
        mistakes.append(Mistake(pointer("space", name, *field.split("/")), message, suggestion))

    if len(parts) < 2:
        wrong("parts", "a simplex needs two parts or more: one alone is always 1")
    for i, part in enumerate(parts):
        if part in parts[:i]:
            wrong(f"parts/{i}", f"{part!r} is listed twice")
    if isinstance(low, bool) or not isinstance(low, int | float) or not math.isfinite(low) or low < 0:
        wrong("min", f"min is {low!r}, which is not a number of at least 0")
    elif len(parts) * low > 1 + 1e-9:
        wrong(
            "min", f"{len(parts)} parts of at least {low:g} are more than 1", f"at most {1 / len(parts):g}"
        )
    elif round(low * SHARE_UNITS) / SHARE_UNITS != low:
        wrong("min", f"min is {low!r}, but shares have six decimals", f"write {round(low, 6)!r}")
    return Simplex(name, parts, float(low))


def _choice(name: str, choice: Choice, field: str, mistakes: list[Mistake]) -> Choice:
    if not choice.values:
        mistakes.append(Mistake(pointer("space", name, field), "no values to choose from"))
    mistakes.extend(
        Mistake(pointer("space", name, field, str(i)), f"{value!r} is listed twice")
        for i, value in enumerate(choice.values)
        if any(type(value) is type(before) and value == before for before in choice.values[:i])
    )
    return choice


def _conditions(
    name: str,
    when: Mapping[str, Any],
    known: Mapping[str, str],
    domains: Mapping[str, Domain],
    mistakes: list[Mistake],
) -> tuple[tuple[str, tuple[ParamValue, ...]], ...]:
    """The conditions written at ``name``, their values in the canonical form of the parents."""
    conditions: list[tuple[str, tuple[ParamValue, ...]]] = []
    for parent, wanted in when.items():
        place = pointer("space", name, "when", parent)
        if parent not in known:
            mistakes.append(
                Mistake(place, f"the space has no parameter {parent}", did_you_mean(parent, known))
            )
            continue
        domain = domains.get(parent)
        if domain is None:
            continue  # The parent's own mistakes are already named.
        if domain.size is None:
            mistakes.append(
                Mistake(
                    place,
                    f"{parent} is continuous, so it hardly ever has an exact value",
                    "make the condition on a parameter with listed values",
                )
            )
            continue
        values: list[ParamValue] = []
        for value in wanted if isinstance(wanted, list | tuple) else [wanted]:
            canonical = domain.canonical(value)
            if canonical is None:
                mistakes.append(
                    Mistake(
                        place,
                        f"{parent} can never be {value!r}: it is {domain.describe()}",
                        did_you_mean(value, [v for v in domain.values if isinstance(v, str)])
                        if isinstance(value, str) and isinstance(domain, Choice)
                        else "",
                    )
                )
            elif not any(type(canonical) is type(v) and canonical == v for v in values):
                values.append(canonical)
        if not values and not isinstance(wanted, bool | int | float | str) and not wanted:
            mistakes.append(Mistake(place, "an empty list: the parameter would never be active"))
        conditions.append((parent, tuple(values)))
    return tuple(conditions)


def _cycles(parameters: Sequence[Parameter], origins: Mapping[str, str]) -> list[Mistake]:
    """One mistake for each cycle of conditions."""
    parents = {p.name: [parent for parent, _ in p.when] for p in parameters}
    done: set[str] = set()
    mistakes: list[Mistake] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            loop = [*path[path.index(name) :], name]
            mistakes.append(
                Mistake(
                    pointer("space", origins[path[-1]], "when", name),
                    f"conditions go round in a circle: {' needs '.join(loop)}",
                )
            )
        elif name not in done:
            for parent in parents.get(name, []):
                visit(parent, [*path, name])
            done.add(name)

    for p in parameters:
        visit(p.name, [])
    return mistakes
