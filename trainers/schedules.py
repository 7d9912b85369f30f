"""Learning-rate schedules as pure functions: step -> share of the peak learning rate.

Nothing here has state, so that a training resumed at any step follows the same curve.
"""

from __future__ import annotations

import math


def share(
    schedule: str, step: int, *, total: int, warmup_fraction: float = 0.0, final_fraction: float = 0.0
) -> float:
    """Share of the peak learning rate that step number ``step`` (from 0) is made with.

    A linear warm-up over ``w = round(warmup_fraction * total)`` steps gives ``(step + 1) / w``. Then, with
    the progress ``p = (step - w) / (total - w)`` and the final share ``f``::

        constant  1
        linear    1 - (1 - f) * p
        cosine    f + (1 - f) * (1 + cos(pi * p)) / 2       (Loshchilov & Hutter 2017, arXiv:1608.03983)

    A training that goes on beyond ``total`` steps keeps the final share.

    :raises ValueError: an unknown schedule
    """
    warmup = round(warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / (total - warmup) if step < total else 1.0
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - (1.0 - final_fraction) * progress
    if schedule == "cosine":
        return final_fraction + (1.0 - final_fraction) * (1.0 + math.cos(math.pi * progress)) / 2.0
    raise ValueError(f"no schedule {schedule!r}; there are: constant, linear, cosine")
