"""Cautions of a fitted loss law."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from search.laws.base import Array, Caution, Interval
from search.laws.posynomial import Problem
from search.laws.robustness import bend, without_worst

FEW_CELLS = 10
"""Intervals from fewer cells (N, D) are rough."""
E_SHARE = 0.25
"""E is not identified if its interval is wider than this share of the lowest loss."""
LEAST_E = 0.01
"""Nor is it below this share of the lowest loss."""
EXPONENT_RATIO = 2.0
"""An exponent is not identified if the ends of its interval differ by more than this factor."""
GRAVE_EXPONENT_RATIO = 4.0
LEAST_EXPONENT = 0.01
"""Below, the loss does not fall with the variable, as far as the runs tell."""
COLLINEAR = 0.99
"""Where log N and log D correlate more, the terms cannot be told apart."""
MOVED = 2.0
"""Standard errors that a parameter may move when the 2 % of the runs that fit worst are left out."""
BEND_P = 0.01
BEND_SIZE = 1e-4
"""A bend over N or D is flagged if its chance is below BEND_P, and its size above this share of the
loss."""


def of_fit(
    parameters: Mapping[str, Interval],
    problem: Problem,
    theta: Array,
    variables: tuple[Array, Array],
    cells: int,
    lowest: float,
) -> list[Caution]:
    """What the fit gives reason for.

    ``parameters``: E, alpha and beta with their intervals; ``theta``: (log E, log A, alpha, log B, beta);
    ``variables``: the centred log N and log D of the runs; ``lowest``: the lowest loss.
    """
    found = []
    if cells < FEW_CELLS:
        found.append(
            Caution("few-cells", f"{cells} cells (N, D) for five parameters: the intervals are rough")
        )
    correlation = float(np.corrcoef(*variables)[0, 1])
    if abs(correlation) > COLLINEAR:
        found.append(
            Caution(
                "collinear",
                f"log N and log D correlate to {correlation:.3f}, so their terms cannot be told apart; add "
                "runs with more or fewer tokens to a parameter",
                grave=True,
            )
        )
    e = parameters["E"]
    if e.value < LEAST_E * lowest:
        found.append(
            Caution(
                "e-unidentified",
                f"E is {e.value:.2g}: these runs show no floor of the loss; larger ones may",
            )
        )
    elif e.high - e.low > E_SHARE * lowest:
        found.append(
            Caution(
                "e-unidentified",
                f"E is {e.value:.3g}, but anything from {e.low:.3g} to {e.high:.3g} fits (the lowest loss "
                f"is {lowest:.3g}); larger runs tell",
            )
        )
    for name, variable in (("alpha", "N"), ("beta", "D")):
        exponent = parameters[name]
        if exponent.value < LEAST_EXPONENT:
            found.append(
                Caution(
                    "exponent-unidentified",
                    f"{name} is {exponent.value:.2g}: the loss of these runs does not fall with {variable}",
                    grave=True,
                )
            )
            continue
        ratio = exponent.high / max(exponent.low, 1e-9)
        if ratio > EXPONENT_RATIO:
            found.append(
                Caution(
                    "exponent-unidentified",
                    f"{name} is {exponent.value:.3g}, but anything from {exponent.low:.3g} to "
                    f"{exponent.high:.3g} fits; add runs over a wider range of {variable}",
                    grave=ratio > GRAVE_EXPONENT_RATIO,
                )
            )
    found += _influence(problem, theta)
    for term, name, log_x in ((1, "N", variables[0]), (2, "D", variables[1])):
        bent = bend(problem, theta, term, log_x)
        if bent.p < BEND_P and bent.size > BEND_SIZE:
            found.append(
                Caution(
                    "bent",
                    f"the residuals bend over {name} by up to {bent.size:.2%} of the loss, which a true "
                    f"power law does with a chance of {bent.p:.1g}; the law may break, do not carry it far",
                )
            )
    return found


def _influence(problem: Problem, theta: Array) -> list[Caution]:
    count, without, errors = without_worst(problem, theta)
    if not count:
        return []
    moved = []
    for index, name in ((0, "E"), (2, "alpha"), (4, "beta")):
        steps = abs(without[index] - theta[index]) / max(errors[index], 1e-9)
        if steps > MOVED:
            then, now = (np.exp(x[0]) if name == "E" else x[index] for x in (without, theta))
            moved.append(f"{name} is {then:.3g} rather than {now:.3g} ({steps:.1f} standard errors)")
    if not moved:
        return []
    return [
        Caution(
            "influence",
            f"without the {count} runs of {len(problem.log_y)} that fit worst, {', '.join(moved)}: look "
            "at these runs, and leave them out if they are not like the others",
        )
    ]
