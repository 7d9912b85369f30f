"""Whether the constraints of a space leave anything, and if not, which of them are to blame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from search.constraints import ends
from search.domains import RealGrid, Whole
from search.errors import Mistake, SearchError, pointer
from search.polytope import System
from search.sampling import candidate_table
from search.space import SearchSpace

_SEED = 0
"""Of the search for one configuration: the same space is always judged alike."""


def why_empty(space: SearchSpace) -> list[Mistake]:
    """What keeps the space from having any configuration; nothing if it has one.

    Linear constraints that contradict each other are named, as few as contradict without the others. Those
    on conditional parameters are judged together with the unconditional ones: if they contradict, the
    parameter could never be active. A space that forbidden combinations leave empty is found by drawing.
    """
    if not space.constrained:
        return []
    always = {p.name for p in space.parameters if not p.when}
    everywhere = [i for i, c in enumerate(space.constraints) if always.issuperset(c.names)]
    if not _satisfiable(space, everywhere):
        return [_contradiction(space, everywhere, "")]
    mistakes: list[Mistake] = []
    for at, constraint in enumerate(space.constraints):
        if at not in everywhere and not _satisfiable(space, [*everywhere, at]):
            conditional = " and ".join(name for name in constraint.names if name not in always)
            mistakes.append(_contradiction(space, [*everywhere, at], f" while {conditional} is active"))
    if mistakes:
        return mistakes
    try:
        candidate_table(space, 1, np.random.default_rng(_SEED))
    except SearchError as error:
        return list(error.mistakes)
    return []


def _contradiction(space: SearchSpace, among: list[int], where: str) -> Mistake:
    """The mistake of constraints that contradict, reduced to those that are needed for it."""
    needed = list(among)
    for at in among:
        rest = [other for other in needed if other != at]
        if not _satisfiable(space, rest):
            needed = rest
    words = "; ".join(str(space.constraints[at]) for at in needed)
    if len(needed) == 1:
        return Mistake(pointer("constraints", needed[0]), f"no values hold{where}: {words}", "loosen it")
    return Mistake(
        pointer("constraints", needed[-1]),
        f"no values hold all of these at once{where}: {words}",
        "loosen one of them, or widen the ranges",
    )


def _satisfiable(space: SearchSpace, among: list[int]) -> bool:
    """Whether numbers within their ranges and on their grids satisfy these linear constraints.

    Of a list of numbers only the ends count, so that an answer of True may be too hopeful.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # heavy: only when it is needed

    rules = space.rules
    rows: npt.NDArray[np.intp] = np.array(among, dtype=np.intp)
    if len(rows) == 0:
        return True
    system = System.of(space.layout, rules.coefficients[rows], rules.bounds[rows], rules.equality[rows])
    everything = np.vstack([system.rows, system.equal_rows])
    columns = np.flatnonzero((everything != 0).any(axis=0)).tolist()
    domains = [space.layout.parameters[column].domain for column in columns]
    low = np.array([ends(domain)[0] for domain in domains])
    # A variable is an index on a grid, and a place in [0, 1] elsewhere.
    gridded = np.array([isinstance(domain, RealGrid | Whole) for domain in domains])
    unit = np.array(
        [d.step if isinstance(d, RealGrid | Whole) else ends(d)[1] - ends(d)[0] for d in domains]
    )
    high = np.array([d.size - 1 if isinstance(d, RealGrid | Whole) else 1.0 for d in domains])
    left = everything[:, columns] @ low
    slope = everything[:, columns] * unit
    scale = np.maximum(np.abs(slope * high).sum(axis=1), 1e-300)
    upper = np.concatenate([system.bounds, system.equal_bounds]) - left
    lower = np.concatenate(
        [np.full(len(system.rows), -np.inf), system.equal_bounds - left[len(system.rows) :]]
    )
    found = milp(
        np.zeros(len(columns)),
        integrality=gridded.astype(np.float64),
        bounds=Bounds(0.0, high),
        constraints=LinearConstraint(slope / scale[:, None], lower / scale, upper / scale),
    )
    return found.x is not None
