"""Search spaces: which configurations are legal, and how they map onto the unit cube.

A space is an ordered set of parameters. Each has a domain (:mod:`search.domains`) and perhaps conditions:
it is *active* only while every parameter it names is active and has one of the values it names. A
configuration names the active parameters and no others. Some parameters are the shares of a simplex, and
linear constraints and forbidden combinations (:mod:`search.constraints`) leave configurations out.

The cube has one dimension for each parameter that is not fixed, in the order of the space. Every point of
the cube decodes to a configuration, a legal one unless a constraint leaves it out (:mod:`search.sampling`
draws legal ones); ``decode(encode(x)) == x`` for every legal ``x`` (a continuous float comes back up to
rounding). Coordinates of inactive parameters are 0.5 and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from search import counting
from search.checking import mistakes
from search.constraints import Forbidden, Linear, Rules
from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole, identity
from search.errors import Mistake, did_you_mean, pointer
from search.parameters import Belief, Parameter, Simplex, Tie, is_active
from search.table import Layout

__all__ = [
    "Belief",
    "Choice",
    "Domain",
    "Fixed",
    "ParamValue",
    "Parameter",
    "Real",
    "RealGrid",
    "SearchSpace",
    "Simplex",
    "Tie",
    "Whole",
    "did_you_mean",
    "pointer",
]

Key = tuple[ParamValue | None, ...]
"""A configuration as something to compare: what identifies each value, None where inactive."""


@dataclass(frozen=True)
class SearchSpace:
    """A search space. Build one with :meth:`from_json` or :meth:`from_study`, which check it."""

    parameters: tuple[Parameter, ...]
    simplexes: tuple[Simplex, ...] = ()
    """Groups of parameters that stand side by side and are shares of one whole."""
    constraints: tuple[Linear, ...] = ()
    forbidden: tuple[Forbidden, ...] = ()

    @classmethod
    def from_json(
        cls,
        document: Mapping[str, Any],
        constraints: Sequence[Mapping[str, Any]] = (),
        forbid: Sequence[Mapping[str, Any]] = (),
    ) -> SearchSpace:
        """The space that the wire's ``space`` JSON describes.

        A constraint is ``{"terms": {NAME: COEFFICIENT}, "relation": "<=" | ">=" | "==", "bound": NUMBER}``;
        a forbidden combination gives each parameter it names a value, a list of values, or
        ``{"above": NUMBER, "below": NUMBER}``.

        Raises :class:`~search.errors.SearchError` naming every mistake, with pointers below ``/space``,
        ``/constraints`` and ``/forbid``. Whether the constraints leave anything is another question:
        :func:`search.emptiness.why_empty`.
        """
        from search.parsing import parse_space  # parsing builds the dataclasses of this module

        return parse_space(document, constraints, forbid)

    def to_json(self) -> dict[str, Any]:
        """The wire's ``space`` JSON; what is at its default is left out, constraints are apart."""
        document: dict[str, Any] = {}
        groups = {simplex.shares[0]: simplex for simplex in self.simplexes}
        shares = {share for simplex in self.simplexes for share in simplex.shares}
        for p in self.parameters:
            simplex = groups.get(p.name)
            if simplex is None and p.name in shares:
                continue
            data = p.domain.to_json() if simplex is None else simplex.to_json()
            if p.when:
                data["when"] = {
                    parent: values[0] if len(values) == 1 else list(values) for parent, values in p.when
                }
            if p.doc:
                data["doc"] = p.doc
            if p.belief is not None:
                data["belief"] = p.belief.to_json()
            if p.tie is not None:
                data["tie"] = p.tie.to_json()
            document[p.name if simplex is None else simplex.name] = data
        return document

    def rules_json(self) -> dict[str, list[dict[str, Any]]]:
        """The arguments of :meth:`from_json` beside the parameters."""
        return {
            "constraints": [constraint.to_json() for constraint in self.constraints],
            "forbid": [combination.to_json() for combination in self.forbidden],
        }

    @cached_property
    def by_name(self) -> Mapping[str, Parameter]:
        return {p.name: p for p in self.parameters}

    @cached_property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the parameters that have a coordinate in the cube, in its order."""
        return tuple(p.name for p in self.parameters if not isinstance(p.domain, Fixed))

    @cached_property
    def conditional(self) -> bool:
        """Whether any parameter has a condition."""
        return any(p.when for p in self.parameters)

    @property
    def constrained(self) -> bool:
        """Whether a point of the cube may decode to what a constraint leaves out."""
        return bool(self.constraints or self.forbidden)

    @property
    def finite(self) -> bool:
        """Whether no parameter is continuous."""
        return all(p.domain.size is not None for p in self.parameters)

    @cached_property
    def layout(self) -> Layout:
        """How many configurations lie in a table."""
        return Layout.of(self.parameters, self.parents_first, self.simplexes)

    @cached_property
    def rules(self) -> Rules:
        """The constraints, ready to judge tables."""
        return Rules.of(self.layout, self.constraints, self.forbidden)

    @cached_property
    def parents_first(self) -> tuple[Parameter, ...]:
        """The parameters in an order in which conditions look backwards only."""
        placed: dict[str, Parameter] = {}

        def place(p: Parameter) -> None:
            if p.name in placed:
                return
            for parent, _ in p.when:
                place(self.by_name[parent])
            placed[p.name] = p

        for p in self.parameters:
            place(p)
        return tuple(placed.values())

    def check(self, params: Mapping[str, object]) -> list[Mistake]:
        """Everything that makes ``params`` no configuration of this space; pointers are ``/NAME``."""
        return mistakes(self, params)

    def encode(self, params: Mapping[str, ParamValue]) -> npt.NDArray[np.float64]:
        """The point of a legal configuration, shape (len(dimensions),), each in [0, 1]."""
        point = np.array(
            [
                self.by_name[name].domain.encode(params[name]) if name in params else 0.5
                for name in self.dimensions
            ],
            dtype=np.float64,
        )
        for simplex, _, own in self.layout.groups:
            if simplex.shares[0] in params:
                point[own] = simplex.encode(np.array([[float(params[share]) for share in simplex.shares]]))[
                    0
                ]
        return point

    def decode(self, point: npt.ArrayLike) -> dict[str, ParamValue]:
        """The configuration of a point of the cube, shape (len(dimensions),)."""
        points = np.asarray(point, dtype=np.float64)
        coordinates = dict(zip(self.dimensions, points.tolist(), strict=True))
        active: dict[str, ParamValue] = {}
        for p in self.parents_first:
            if is_active(p, active):
                active[p.name] = p.domain.decode(coordinates.get(p.name, 0.5))
        for simplex, _, own in self.layout.groups:
            if simplex.shares[0] in active:
                active.update(
                    zip(simplex.shares, simplex.decode(points[None, own])[0].tolist(), strict=True)
                )
        return {p.name: active[p.name] for p in self.parameters if p.name in active}

    def key(self, params: Mapping[str, ParamValue]) -> Key:
        """Equal for two legal configurations if and only if they are the same."""
        return tuple(
            identity(p.domain, params[p.name]) if p.name in params else None for p in self.parameters
        )

    @cached_property
    def cardinality(self) -> int | None:
        """How many configurations there are; None: infinitely many, or too entangled to count."""
        return counting.count(self)

    def configurations(self) -> Iterator[dict[str, ParamValue]]:
        """Every configuration once, in a fixed order. Only for a space with a ``cardinality``."""
        return counting.configurations(self)
