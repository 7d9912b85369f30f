"""Spaces, curves and views that the tests of search share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from search import strategies
from search.space import Choice, ParamValue, Real, RealGrid, SearchSpace, Whole
from search.view import BudgetLeft, Fidelity, StudyView, TrialView

MIXED: dict[str, Any] = {
    "lr": {"type": "float", "low": 1e-5, "high": 1.0, "log": True},
    "momentum": {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1},
    "width": {"type": "int", "low": 8, "high": 512, "log": True},
    "depth": {"type": "int", "low": 1, "high": 6},
    "activation": {"type": "categorical", "choices": ["relu", "gelu", 1, True]},
    "size": {"type": "ordered", "values": ["small", "medium", "large"]},
    "bias": {"type": "bool"},
    "seed": {"type": "fixed", "value": 7},
}

CONDITIONAL: dict[str, Any] = {
    **MIXED,
    "optimizer": {"type": "categorical", "choices": ["adam", "sgd", "lion"]},
    "beta2": {"type": "float", "low": 0.9, "high": 0.999, "when": {"optimizer": ["adam", "lion"]}},
    "nesterov": {"type": "bool", "when": {"optimizer": "sgd"}},
    "damping": {"type": "int", "low": 0, "high": 9, "when": {"nesterov": False}},
}

SCHEDULES = ("autolrs", "lr-schedule")
"""Strategies that search the schedule of one learning rate; test_lr_schedule.py is about them."""
LAWS = ("scaling",)
"""Strategies that need a size, a length, a learning rate and a batch; test_scaling.py is about them."""
GENERAL = tuple(name for name in strategies.names() if name not in (*SCHEDULES, *LAWS))
"""Strategies that search a space."""


def space(document: Mapping[str, Any] | None = None) -> SearchSpace:
    return SearchSpace.from_json(MIXED if document is None else document)


def valley(params: Mapping[str, ParamValue], step: int) -> float:
    """A loss that falls like a power of the step to a floor set by lr and depth."""
    lr = float(params["lr"])
    return (math.log10(lr) + 2) ** 2 / 4 + 0.05 * int(params["depth"]) + 2 / math.sqrt(step)


def trial(number: int, lr: float = 0.1, **known: Any) -> TrialView:
    """A trial of the one-parameter space of the hand-worked examples."""
    known.setdefault("status", "paused")
    known.setdefault("resumable", known["status"] == "paused")
    steps = known.get("steps", ())
    known.setdefault("step", steps[-1] if steps else 0)
    known.setdefault("first_target", 1)
    known.setdefault("target", known["step"] or known["first_target"])
    return TrialView(number, {"lr": lr}, **known)


def view(
    *trials: TrialView,
    strategy: str = "asha",
    fidelity: Fidelity | None = None,
    document: Mapping[str, Any] | None = None,
    maximize: bool = False,
    options: Mapping[str, ParamValue] | None = None,
    budget: BudgetLeft | None = None,
) -> StudyView:
    """A study over one learning rate, rungs 1, 3, 9."""
    return StudyView(
        SearchSpace.from_json(document or {"lr": {"type": "float", "low": 0.0, "high": 1.0}}),
        fidelity or Fidelity(1, 9, 1),
        maximize,
        strategy,
        options or {},
        trials,
        budget or BudgetLeft(),
    )


_NAMES = ("a", "b", "c", "d", "e")


@st.composite
def _domains(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(["float", "log", "grid", "int", "intlog", "cat", "ordered", "bool", "fixed"])
    )
    finite = st.floats(allow_nan=False, allow_infinity=False)
    whole = st.integers(-(10**12), 10**12)
    if kind == "float":
        low, high = sorted((draw(finite), draw(finite)))
        return {"type": "float", "low": low, "high": high}
    if kind == "log":
        positive = st.floats(min_value=1e-300, max_value=1e300)
        low, high = sorted((draw(positive), draw(positive)))
        return {"type": "float", "low": low, "high": high, "log": True}
    if kind == "grid":
        low = draw(st.integers(-1000, 1000)) / 10
        step = draw(st.integers(1, 50)) / 100
        return {"type": "float", "low": low, "high": low + draw(st.integers(1, 40)) * step, "step": step}
    if kind == "int":
        low, high = sorted((draw(whole), draw(whole)))
        data: dict[str, Any] = {"type": "int", "low": low, "high": high}
        if draw(st.booleans()) and high > low:
            data["step"] = draw(st.integers(1, min(high - low, 10**12)))
        return data
    if kind == "intlog":
        low, high = sorted((draw(st.integers(1, 10**12)), draw(st.integers(1, 10**12))))
        return {"type": "int", "low": low, "high": high, "log": True}
    values = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, "x", "y", "true"]))
    several = st.lists(values, min_size=1, max_size=5, unique_by=lambda v: (type(v), v))
    if kind == "cat":
        return {"type": "categorical", "choices": draw(several)}
    if kind == "ordered":
        return {"type": "ordered", "values": draw(several)}
    if kind == "bool":
        return {"type": "bool"}
    return {"type": "fixed", "value": draw(values)}


@st.composite
def _simplex(draw: st.DrawFn) -> dict[str, Any]:
    parts = [f"part{i}" for i in range(draw(st.integers(2, 6)))]
    low = draw(st.integers(0, 10**6 // len(parts))) / 10**6
    return {"type": "simplex", "parts": parts, **({"min": low} if low else {})}


@st.composite
def documents(draw: st.DrawFn, simplexes: bool = False, domains: Any = None) -> dict[str, Any]:
    """Space documents with every kind of domain, and conditions on the parameters before."""
    domains = _domains() if domains is None else domains
    document: dict[str, Any] = {}
    for name in _NAMES[: draw(st.integers(1, len(_NAMES)))]:
        data = draw(st.one_of(domains, _simplex()) if simplexes else domains)
        listed = {
            parent: own.get("choices")
            or own.get("values")
            or ([True, False] if own["type"] == "bool" else None)
            for parent, own in document.items()
        }
        parents = [parent for parent, values in listed.items() if values]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            allowed = draw(
                st.lists(
                    st.sampled_from(listed[parent]),
                    min_size=1,
                    max_size=3,
                    unique_by=lambda v: (type(v), v),
                )
            )
            data["when"] = {parent: allowed[0] if len(allowed) == 1 else allowed}
        document[name] = data
    # Children may be written before their parents.
    order = draw(st.permutations(list(document)))
    return {name: document[name] for name in order}


@st.composite
def _tame_domains(draw: st.DrawFn) -> dict[str, Any]:
    """Domains of sizes that people write."""
    kind = draw(
        st.sampled_from(["float", "log", "grid", "int", "intlog", "cat", "numbers", "bool", "fixed"])
    )
    low = draw(st.integers(-20, 20))
    width = draw(st.integers(1, 40))
    return {
        "float": {"type": "float", "low": float(low), "high": float(low + width)},
        "log": {"type": "float", "low": 10.0 ** -(width % 8), "high": float(width + 1), "log": True},
        "grid": {"type": "float", "low": low / 10, "high": low / 10 + width * 0.1, "step": 0.1},
        "int": {"type": "int", "low": low, "high": low + width},
        "intlog": {"type": "int", "low": abs(low) + 1, "high": abs(low) + 1 + 10 * width, "log": True},
        "cat": {"type": "categorical", "choices": ["x", "y", 1]},
        "numbers": {"type": "ordered", "values": [16, 32, 64]},
        "bool": {"type": "bool"},
        "fixed": {"type": "fixed", "value": low},
    }[kind]


@st.composite
def constrained(draw: st.DrawFn) -> SearchSpace:
    """Spaces with constraints that at least one of their configurations holds."""
    document = draw(documents(simplexes=True, domains=_tame_domains()))
    plain = SearchSpace.from_json(document)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    witness = plain.decode(rng.random(len(plain.dimensions)))
    numeric = [
        p.name
        for p in plain.parameters
        if p.name in witness and isinstance(p.domain, Real | RealGrid | Whole)
    ]
    constraints: list[dict[str, Any]] = []
    if numeric:
        for _ in range(draw(st.integers(0, 3))):
            names = draw(st.lists(st.sampled_from(numeric), min_size=1, max_size=3, unique=True))
            terms = {name: draw(st.sampled_from([-2, -1, 1, 3])) for name in names}
            value = sum(c * float(witness[name]) for name, c in terms.items())
            relation = draw(st.sampled_from(["<=", ">=", "=="]))
            slack = draw(st.sampled_from([0.0, 0.5])) * {"<=": 1, ">=": -1, "==": 0}[relation]
            constraints.append({"terms": terms, "relation": relation, "bound": value + slack})
    forbid: list[dict[str, Any]] = []
    listed = [p for p in plain.parameters if isinstance(p.domain, Choice) and p.domain.size > 1]
    for p in listed[: draw(st.integers(0, 2))]:
        others = [
            v for v in p.domain.values if type(v) is not type(witness.get(p.name)) or v != witness[p.name]
        ]
        forbid.append({p.name: others[:1]})
    return SearchSpace.from_json(document, constraints, forbid)
