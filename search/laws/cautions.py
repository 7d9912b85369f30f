"""Cautions that all laws share: about the runs themselves, and about how far a target is from them."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from search.laws.base import Array, Caution, Runs

FEWEST_VALUES = 3
"""Of N and of D: with fewer a power law cannot be told from anything else."""
SMALL_N = 1e7
"""Below so many parameters embeddings and heads are most of a language model, and laws are known to bend
(Pearce and Song 2024, "Reconciling Kaplan and Chinchilla scaling laws")."""
OCTAVES_OUTSIDE = 0.25
"""A target further than this from the convex hull of the runs, in log2 N or log2 D, is outside."""


def of_runs(runs: Runs) -> tuple[Caution, ...]:
    """What the runs alone give reason for, whatever law is fitted."""
    found = list(runs.cautions)
    for column, kinds in runs.conditions.items():
        if len(kinds) > 1:
            told = ", ".join(kinds[:5]) + (", ..." if len(kinds) > 5 else "")
            found.append(
                Caution(
                    "conditions-differ",
                    f"runs differ in {column} ({told}); a law holds for one of them: fit each apart",
                )
            )
    for name, values in (("N", runs.n), ("D", runs.d)):
        distinct = len(np.unique(values))
        if distinct < FEWEST_VALUES:
            found.append(
                Caution(
                    "few-values",
                    f"there are {distinct} values of {name}; an exponent needs at least {FEWEST_VALUES}",
                    grave=True,
                )
            )
    if (runs.n < SMALL_N).any():
        share = float(np.mean(runs.n < SMALL_N))
        found.append(
            Caution(
                "small-models",
                f"{share:.0%} of the runs have fewer than {SMALL_N:.0e} parameters, where laws are known "
                "to bend; do not carry this one over to larger models without runs there",
            )
        )
    return tuple(found)


def of_target(runs_n: Array, runs_d: Array, n: float, d: float) -> tuple[Caution, ...]:
    """Whether the target is outside the hull of the runs, or a large model while all runs are small."""
    found = []
    beyond_n, beyond_d = octaves_beyond(runs_n, runs_d, n, d)
    far = max(abs(beyond_n), abs(beyond_d))
    if far > OCTAVES_OUTSIDE:
        width = max(float(np.ptp(np.log2(runs_n))), float(np.ptp(np.log2(runs_d))))
        found.append(
            Caution(
                "outside-hull",
                f"the target is outside the runs, {beyond_n:+.1f} octaves in N, {beyond_d:+.1f} in D and "
                f"{beyond_n + beyond_d:+.1f} in C from the nearest point between them; the runs span "
                f"{width:.1f} octaves" + (", less than they are asked to foresee" if far > width else ""),
                grave=far > width,
            )
        )
    if n >= SMALL_N > runs_n.max():
        found.append(
            Caution(
                "small-models-only",
                f"all runs have fewer than {SMALL_N:.0e} parameters, the target has {n:.2g}: laws of such "
                "small models are known to bend on the way",
                grave=True,
            )
        )
    return tuple(found)


def octaves_beyond(runs_n: Array, runs_d: Array, n: float, d: float) -> tuple[float, float]:
    """From the nearest point of the runs' convex hull in (log2 N, log2 D) to the target; 0 inside."""
    points = np.unique(np.log2(np.column_stack([runs_n, runs_d])), axis=0)
    target = np.log2([n, d])
    # The nearest convex combination: non-negative least squares, with a heavy row for a sum of 1.
    heavy = 1e3 * (1 + float(np.abs(points - target).max()))
    system = np.vstack([(points - target).T, np.full(len(points), heavy)])
    weights = nnls(system, np.array([0.0, 0.0, heavy]))[0]
    step = target - weights @ points / weights.sum()
    return float(step[0]), float(step[1])
