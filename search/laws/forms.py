"""Forms of the laws of the optimum: which of N, D and C = 6 N D the best rate and the best batch depend
on.

The priors of their exponents are wide: two published laws and the rules of thumb lie within one standard
deviation. They decide where the runs cannot (and then the exponents are said to be unidentified), and
hardly count elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from search.laws.base import Array, PowerLaw

N_D, D, C = "N,D", "D", "C"
VARIABLES: Mapping[str, tuple[str, ...]] = {N_D: ("N", "D"), D: ("D",), C: ("C",)}
LR_FORMS = (N_D, C)
BATCH_FORMS = (N_D, D, C)

LR_EXPONENTS = {"N": -0.4, "D": 0.15, "C": -0.125}
"""Means of the prior: Step Law -0.713 and 0.307; muP at a fixed batch about -0.5 N (width); DeepSeek
-0.125 C."""
BATCH_EXPONENTS = {"N": 0.05, "D": 0.5, "C": 0.33}
"""Step Law 0.571 D; DeepSeek 0.327 C; critical batch size sqrt(D) (Zhang et al. 2024)."""
EXPONENT_DEVIATION = 1.0


def features(form: str, log_n: Array, log_d: Array, centre: tuple[float, float]) -> Array:
    """(..., 1 + variables) what the coefficients of ``form`` are multiplied with; ``centre`` is in
    (log N, log D)."""
    n, d = log_n - centre[0], log_d - centre[1]
    columns = {"N": n, "D": d, "C": n + d}
    return np.stack([np.ones_like(n), *(columns[name] for name in VARIABLES[form])], axis=-1)


def power_law(form: str, coefficients: Sequence[float], centre: tuple[float, float]) -> PowerLaw:
    """The law of coefficients in centred variables, in N, D or C themselves."""
    names = VARIABLES[form]
    middle = {"N": centre[0], "D": centre[1], "C": centre[0] + centre[1] + np.log(6.0)}
    exponents = {name: float(value) for name, value in zip(names, coefficients[1:], strict=True)}
    constant = float(coefficients[0]) - sum(exponents[name] * middle[name] for name in names)
    return PowerLaw(constant, exponents)
