"""Reading what a study says beyond its parameters' ranges: beliefs, ties, constraints, forbidden values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard, get_args

from search.constraints import Clause, Forbidden, Linear, Relation, ends, is_numeric
from search.domains import Choice, Domain, ParamValue, Real
from search.errors import Mistake, did_you_mean, pointer
from search.parameters import Belief, Parameter, Tie, TieRule

_RELATIONS: Mapping[Any, Relation] = {"<=": "<=", ">=": ">=", "==": "=="}
_RULES: Mapping[Any, TieRule] = {rule: rule for rule in get_args(TieRule)}


def parse_belief(
    name: str, data: Mapping[str, Any], domain: Domain, mistakes: list[Mistake]
) -> Belief | None:
    """Where the user thinks that good values of a parameter lie."""

    def wrong(field: str, message: str, suggestion: str = "") -> None:
        mistakes.append(Mistake(pointer("space", name, "belief", *field.split("/")), message, suggestion))

    before = len(mistakes)
    given = {field: value for field, value in data.items() if value is not None}
    for field in given:
        if field not in ("near", "between", "factor", "sd"):
            wrong(
                field, f"a belief has no {field}", did_you_mean(field, ("near", "between", "factor", "sd"))
            )
    if len(mistakes) > before:
        return None
    if ("near" in given) == ("between" in given) or ("factor" in given) == ("sd" in given):
        mistakes.append(
            Mistake(
                pointer("space", name, "belief"),
                "a belief says where (near or between) and how far off it may be (factor or sd)",
                "for example {near: 3.0e-4, factor: 3} or {between: [0.1, 0.2], sd: 0.05}",
            )
        )
        return None
    log = "factor" in given
    spread = given["factor" if log else "sd"]
    if not _is_number(spread) or spread <= (1 if log else 0):
        wrong("factor" if log else "sd", f"it must be a number above {1 if log else 0}, not {spread!r}")
    where = given["between"] if "between" in given else [given["near"], given["near"]]
    place = "between" if "between" in given else "near"
    low, high = ends(domain)
    if not isinstance(where, list | tuple) or len(where) != 2 or not all(_is_number(x) for x in where):
        wrong(place, "it must be a number" if place == "near" else "it must be two numbers, [LOW, HIGH]")
    elif where[0] > where[1]:
        wrong(place, f"{where[0]:g} is above {where[1]:g}", "turn them round")
    elif where[1] < low or where[0] > high or (place == "near" and not low <= where[0] <= high):
        wrong(
            place, f"the belief lies outside of {low:g} to {high:g}", "widen the range, or move the belief"
        )
    elif log and where[0] <= 0:
        wrong(place, f"a factor speaks of positive values, not of {where[0]:g}", "say sd")
    if len(mistakes) > before:
        return None
    return Belief(float(where[0]), float(where[1]), float(spread), log)


def parse_tie(
    name: str,
    data: Mapping[str, Any],
    known: Mapping[str, str],
    domains: Mapping[str, Domain],
    mistakes: list[Mistake],
) -> Tie | None:
    """The scaling rule of a parameter."""

    def wrong(field: str, message: str, suggestion: str = "") -> None:
        mistakes.append(Mistake(pointer("space", name, "tie", field), message, suggestion))

    before = len(mistakes)
    if name in domains and not is_numeric(domains[name]):
        mistakes.append(
            Mistake(
                pointer("space", name, "tie"),
                f"{name} is no number: there is nothing to scale",
                "take the tie away",
            )
        )
    for field in data:
        if field not in ("to", "at", "rule"):
            wrong(field, f"a tie has no {field}", did_you_mean(field, ("to", "at", "rule")))
    to, at, rule = data.get("to"), data.get("at"), data.get("rule")
    if not isinstance(to, str) or to not in known:
        wrong("to", f"the space has no parameter {to}", did_you_mean(str(to), known))
    elif to == name:
        wrong("to", f"{name} cannot be tied to itself")
    elif to in domains:
        if not is_numeric(domains[to]):
            wrong("to", f"{to} is no number", "tie it to a numeric parameter, such as the batch size")
        elif ends(domains[to])[0] <= 0:
            wrong("to", f"{to} may be {ends(domains[to])[0]:g}: nothing can be scaled by that")
    if not _is_number(at) or at <= 0:
        wrong(
            "at", f"it must be a positive number, not {at!r}", f"a value of {to} at which {name} is known"
        )
    if rule not in _RULES:
        wrong("rule", f"{rule!r} is not a rule", did_you_mean(str(rule), [str(known) for known in _RULES]))
    if len(mistakes) > before or not _is_number(at):
        return None
    return Tie(str(to), float(at), _RULES[rule])


def tie_cycles(parameters: Sequence[Parameter]) -> list[Mistake]:
    """One mistake for each circle of ties."""
    follows = {p.name: p.tie.to for p in parameters if p.tie is not None}
    mistakes: list[Mistake] = []
    reported: set[str] = set()
    for start in follows:
        path = [start]
        while path[-1] in follows and follows[path[-1]] not in path:
            path.append(follows[path[-1]])
        if follows.get(path[-1]) == start and not reported.intersection(path):
            reported.update(path)
            mistakes.append(
                Mistake(
                    pointer("space", start, "tie", "to"),
                    f"ties go round in a circle: {' follows '.join([*path, start])}",
                )
            )
    return mistakes


def parse_constraints(
    documents: Sequence[Mapping[str, Any]],
    known: Mapping[str, str],
    domains: Mapping[str, Domain],
    groups: Mapping[str, Sequence[str]],
    mistakes: list[Mistake],
) -> tuple[Linear, ...]:
    """The linear constraints; mistakes have pointers below ``/constraints``."""
    constraints: list[Linear] = []
    for at, data in enumerate(documents):
        found: list[Mistake] = []

        def wrong(message: str, suggestion: str = "", at: int = at, found: list[Mistake] = found) -> None:
            found.append(Mistake(pointer("constraints", at), message, suggestion))

        terms, relation, bound = data.get("terms"), data.get("relation"), data.get("bound")
        if not isinstance(terms, Mapping) or not terms:
            wrong("the constraint names no parameter")
            terms = {}
        if relation not in _RELATIONS:
            wrong(f"{relation!r} is not a relation", "say <=, >= or ==")
        if not _is_number(bound):
            wrong(f"the bound is {bound!r}, which is not a number")
        for name, coefficient in terms.items():
            if not _is_number(coefficient) or coefficient == 0:
                wrong(f"the coefficient of {name} is {coefficient!r}", "give a number other than 0")
            elif name not in known:
                wrong(*_unknown(name, known, groups))
            elif name in domains and not is_numeric(domains[name]):
                wrong(
                    f"{name} is no number, so it cannot be added up", "say what is not allowed under forbid"
                )
        if not found and relation is not None and all(name in domains for name in terms):
            constraint = Linear(
                tuple((name, float(c)) for name, c in terms.items()),
                _RELATIONS[relation],
                float(bound or 0.0),
            )
            _possible(constraint, domains, wrong)
            constraints.append(constraint)
        mistakes.extend(found)
    return tuple(constraints)


def _possible(constraint: Linear, domains: Mapping[str, Domain], wrong: Any) -> None:
    """Whether any values satisfy a constraint, taken alone."""
    reach = [sorted(c * end for end in ends(domains[name])) for name, c in constraint.terms]
    low, high = sum(r[0] for r in reach), sum(r[1] for r in reach)
    if not math.isfinite(high - low):
        wrong(f"the ranges in {constraint} are too wide to be added up", "narrow them, or use a log scale")
        return
    slack = 1e-9 * (abs(constraint.bound) + max(abs(low), abs(high)))
    if constraint.relation != ">=" and low > constraint.bound + slack:
        wrong(
            f"{constraint} can never hold: the left side is at least {low:g}",
            "change the bound or the ranges",
        )
    elif constraint.relation != "<=" and high < constraint.bound - slack:
        wrong(
            f"{constraint} can never hold: the left side is at most {high:g}",
            "change the bound or the ranges",
        )


def parse_forbidden(
    documents: Sequence[Mapping[str, Any]],
    known: Mapping[str, str],
    domains: Mapping[str, Domain],
    groups: Mapping[str, Sequence[str]],
    mistakes: list[Mistake],
) -> tuple[Forbidden, ...]:
    """The forbidden combinations; mistakes have pointers below ``/forbid``."""
    combinations: list[Forbidden] = []
    for at, data in enumerate(documents):
        clauses: list[Clause] = []
        if not data:
            mistakes.append(Mistake(pointer("forbid", at), "the combination names no parameter"))
        for name, wanted in data.items():
            if name not in known:
                mistakes.append(Mistake(pointer("forbid", at, name), *_unknown(name, known, groups)))
            elif name in domains:
                clauses.append(_clause(name, wanted, domains[name], pointer("forbid", at, name), mistakes))
        combinations.append(Forbidden(tuple(clauses)))
    return tuple(combinations)


def _clause(name: str, wanted: Any, domain: Domain, place: str, mistakes: list[Mistake]) -> Clause:
    if isinstance(wanted, Mapping):
        bounds = {word: bound for word, bound in wanted.items() if bound is not None}
        for word, bound in bounds.items():
            if word not in ("above", "below"):
                mistakes.append(
                    Mistake(
                        f"{place}{pointer(word)}", f"there is no {word} here", "say above, below or both"
                    )
                )
            elif not _is_number(bound):
                mistakes.append(Mistake(f"{place}{pointer(word)}", f"{bound!r} is not a number"))
        above, below = bounds.get("above"), bounds.get("below")
        low, high = ends(domain)
        if not bounds:
            mistakes.append(Mistake(place, "no values are named", "say above, below or both"))
        elif not is_numeric(domain):
            mistakes.append(
                Mistake(place, f"{name} is no number: nothing is above or below", "list the values")
            )
        elif (_is_number(above) and above >= high) or (_is_number(below) and below <= low):
            mistakes.append(
                Mistake(place, f"{name} is never there: it is from {low:g} to {high:g}", "take it out")
            )
        elif _is_number(above) and _is_number(below) and above >= below:
            mistakes.append(
                Mistake(place, f"nothing is above {above:g} and below {below:g}", "turn them round")
            )
        return Clause(name, (), above, below)
    if isinstance(domain, Real) and domain.size is None:
        mistakes.append(
            Mistake(
                place, f"{name} is continuous, so it hardly ever has an exact value", "say above or below"
            )
        )
        return Clause(name)
    values: list[ParamValue] = []
    for value in wanted if isinstance(wanted, list | tuple) else [wanted]:
        canonical = domain.canonical(value)
        if canonical is None:
            listed = [v for v in domain.values if isinstance(v, str)] if isinstance(domain, Choice) else []
            mistakes.append(
                Mistake(
                    place,
                    f"{name} can never be {value!r}: it is {domain.describe()}",
                    did_you_mean(value, listed) if isinstance(value, str) else "",
                )
            )
        else:
            values.append(canonical)
    if isinstance(wanted, list | tuple) and not wanted:
        mistakes.append(Mistake(place, "an empty list: the combination would never occur"))
    return Clause(name, tuple(values))


def _unknown(name: str, known: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    if name in groups:
        return f"{name} is a simplex", f"name its shares: {', '.join(groups[name])}"
    return f"the space has no parameter {name}", did_you_mean(name, known)


def _is_number(value: object) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
