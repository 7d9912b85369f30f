"""What is wrong with a configuration, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from search.domains import Choice, Domain, ParamValue, Real, RealGrid, Whole
from search.errors import Mistake, did_you_mean, pointer
from search.parameters import SHARE_UNITS, Parameter, is_active

if TYPE_CHECKING:
    from search.space import SearchSpace


def mistakes(space: SearchSpace, params: Mapping[str, object]) -> list[Mistake]:
    """Everything that makes ``params`` no configuration of the space; pointers are ``/NAME``."""
    found: list[Mistake] = []
    active: dict[str, ParamValue] = {}
    unclear: set[str] = set()  # Their own value is wrong: nothing is said of what depends on them.
    for name in params:
        if name not in space.by_name:
            hint = did_you_mean(name, space.by_name)
            simplex = next((s for s in space.simplexes if s.name == name), None)
            if simplex is not None:
                hint = f"name its shares: {', '.join(simplex.shares)}"
            found.append(Mistake(pointer(name), f"the space has no parameter {name}", hint))
    for p in space.parents_first:
        if any(parent in unclear for parent, _ in p.when):
            unclear.add(p.name)
        elif not is_active(p, active):
            if p.name in params:
                needs = _describe_condition(p)
                found.append(
                    Mistake(
                        pointer(p.name), f"{p.name} is not active here: it needs {needs}", "leave it out"
                    )
                )
        elif p.name not in params:
            unclear.add(p.name)
            found.append(Mistake(pointer(p.name), f"{p.name} is missing", f"give it {p.domain.describe()}"))
        else:
            value = p.domain.canonical(params[p.name])
            if value is None:
                unclear.add(p.name)
                found.append(
                    Mistake(
                        pointer(p.name),
                        f"{p.name} is {params[p.name]!r}, which is not {p.domain.describe()}",
                        _nearest(p.domain, params[p.name]),
                    )
                )
            else:
                active[p.name] = value
    found.extend(_shares(space, active))
    if space.constrained:
        found.extend(_broken(space, active))
    return found


def _shares(space: SearchSpace, active: Mapping[str, ParamValue]) -> Iterator[Mistake]:
    """Shares that are no millionths, or do not sum to one."""
    for simplex in space.simplexes:
        if not all(share in active for share in simplex.shares):
            continue
        units = [round(float(active[share]) * SHARE_UNITS) for share in simplex.shares]
        rough = [
            (share, unit / SHARE_UNITS)
            for share, unit in zip(simplex.shares, units, strict=True)
            if unit / SHARE_UNITS != active[share]
        ]
        for share, nearest in rough:
            yield Mistake(
                pointer(share),
                f"{share} is {active[share]!r}, which has more than six decimals",
                f"write {nearest!r}",
            )
        if not rough and sum(units) != SHARE_UNITS:
            yield Mistake(
                pointer(simplex.shares[-1]),
                f"the shares of {simplex.name} sum to {sum(units) / SHARE_UNITS!r}, not to 1",
                f"change some by {abs(SHARE_UNITS - sum(units)) / SHARE_UNITS!r} in all",
            )


def _broken(space: SearchSpace, active: Mapping[str, ParamValue]) -> Iterator[Mistake]:
    """Constraints that the parameters with sound values break."""
    rules, table = space.rules, space.layout.read([active])
    left = space.layout.numbers(table) @ rules.coefficients.T
    for at in np.flatnonzero(rules.broken(table)[0]).tolist():
        constraint = space.constraints[at]
        value = -left[0, at] if constraint.relation == ">=" else left[0, at]
        yield Mistake(
            pointer(constraint.names[0]),
            f"the constraint {constraint} is broken: the left side is {value:g}",
            f"change {' or '.join(constraint.names)}",
        )
    for at in np.flatnonzero(rules.caught(table)[0]).tolist():
        combination = space.forbidden[at]
        yield Mistake(
            pointer(combination.names[0]),
            f"the combination {combination} is forbidden",
            f"change {' or '.join(combination.names)}",
        )


def _describe_condition(p: Parameter) -> str:
    return " and ".join(
        f"{parent} = {' or '.join(str(value) for value in values)}" for parent, values in p.when
    )


def _nearest(domain: Domain, value: object) -> str:
    """What to write instead of an illegal value, where that is plain."""
    if isinstance(domain, Choice) and isinstance(value, str):
        return did_you_mean(value, [v for v in domain.values if isinstance(v, str)])
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return ""
    if isinstance(domain, Real | RealGrid | Whole):
        clipped = min(max(value, domain.low), domain.high)
        if isinstance(domain, RealGrid):
            clipped = domain.at(domain.index(clipped))
        elif isinstance(domain, Whole):
            clipped = domain.at(min(domain.size - 1, round((clipped - domain.low) / domain.step)))
        return f"the nearest legal value is {clipped}"
    return ""
