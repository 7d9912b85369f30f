"""Reading the wire's ``space`` JSON, with every mistake found at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from search.domains import MAX_INT, Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole
from search.errors import Mistake, SearchError
from search.space import Parameter, did_you_mean, pointer

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "float": ("low", "high", "log", "step"),
    "int": ("low", "high", "log", "step"),
    "categorical": ("choices",),
    "ordered": ("values",),
    "bool": (),
    "fixed": ("value",),
}


def parse_parameters(document: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The parameters that ``document`` describes.

    Raises :class:`~search.errors.SearchError` with every mistake found.
    """
    mistakes: list[Mistake] = []
    if not document:
        mistakes.append(Mistake("/space", "the space has no parameters"))
    domains: dict[str, Domain] = {}
    for name, data in document.items():
        domain = _domain(name, data, mistakes)
        if domain is not None:
            domains[name] = domain
    parameters = tuple(
        Parameter(
            name,
            domain,
            _conditions(name, document[name].get("when") or {}, document, domains, mistakes),
            document[name].get("doc") or "",
        )
        for name, domain in domains.items()
    )
    mistakes.extend(_cycles(parameters))
    if mistakes:
        raise SearchError(mistakes)
    return parameters


def _domain(name: str, data: Mapping[str, Any], mistakes: list[Mistake]) -> Domain | None:
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
    required = [f for f in _FIELDS[kind] if f not in ("log", "step")]
    found.extend(
        Mistake(pointer("space", name, field), f"{field} is missing")
        for field in required
        if data.get(field) is None
    )
    domain: Domain | None = None
    if not found:
        if kind in ("float", "int"):
            domain = _range(name, kind, data, found)
        elif kind == "bool":
            domain = Choice((False, True), "bool")
        elif kind == "fixed":
            domain = Fixed(data["value"])
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
    document: Mapping[str, Any],
    domains: Mapping[str, Domain],
    mistakes: list[Mistake],
) -> tuple[tuple[str, tuple[ParamValue, ...]], ...]:
    """The conditions of parameter ``name``, their values in the canonical form of the parents."""
    conditions: list[tuple[str, tuple[ParamValue, ...]]] = []
    for parent, wanted in when.items():
        place = pointer("space", name, "when", parent)
        if parent not in document:
            mistakes.append(
                Mistake(place, f"the space has no parameter {parent}", did_you_mean(parent, document))
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


def _cycles(parameters: tuple[Parameter, ...]) -> list[Mistake]:
    """One mistake for each cycle of conditions."""
    parents = {p.name: [parent for parent, _ in p.when] for p in parameters}
    done: set[str] = set()
    mistakes: list[Mistake] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            loop = [*path[path.index(name) :], name]
            mistakes.append(
                Mistake(
                    pointer("space", path[-1], "when", name),
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
