"""Learning-rate schedules by name, as pure functions: step -> share of the peak learning rate.

Nothing here has state, so that a training resumed at any step follows the same curve.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from trainers.settings import Config, setting

SCHEDULES = (
    "constant", "linear", "cosine", "inverse-sqrt", "polynomial", "wsd", "one-cycle", "restarts", "step",
    "table",
)  # fmt: skip
_LEAST_WARMUP = 1
"""Steps of the inverse square root's time scale without a warm-up."""

Points = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class ScheduleConfig(Config):
    """The learning rate over a training. A schedule passes over the settings that are not its own."""

    schedule: str = setting(
        "cosine",
        "Shape of the learning rate after the warm-up; wsd is warm-up, stable, decay.",
        choices=SCHEDULES,
    )
    warmup_fraction: float = setting(
        0.1,
        "Share of a full training in which the learning rate rises: linearly, of one-cycle along a cosine. "
        "table has none.",
        low=0.0,
        high=1.0,
    )
    final_fraction: float = setting(
        0.0,
        "Learning rate at the end of a full training (of restarts: of each cycle), as a share of the peak. "
        "Of linear, cosine, polynomial, wsd, one-cycle and restarts.",
        low=0.0,
        high=1.0,
    )
    start_fraction: float = setting(
        0.04, "Of one-cycle: learning rate of the first step, as a share of the peak.", low=0.0, high=1.0
    )
    power: float = setting(2.0, "Of polynomial: exponent; 1 is linear.", low=0.0, high=100.0)
    decay_fraction: float = setting(
        0.2, "Of wsd: share of a full training, at its end, in which the rate falls.", low=0.0, high=1.0
    )
    decay_shape: str = setting(
        "linear", "Of wsd: how the rate falls.", choices=("linear", "cosine", "sqrt", "square")
    )
    cycles: int = setting(3, "Of restarts: cycles in a full training.", low=1, high=1000)
    cycle_growth: float = setting(
        1.0, "Of restarts: length of each cycle, as a multiple of the one before it.", low=1.0, high=10.0
    )
    drops: int = setting(2, "Of step: times that the rate falls, at even distances.", low=1, high=1000)
    drop_factor: float = setting(
        0.1, "Of step: what the rate is multiplied by when it falls.", low=0.0, high=1.0
    )
    schedule_table: str = setting(
        "",
        "Of table: steps with shares of the peak, as in '0:0.1, 300:1, 600:0', and straight lines between; "
        "before the first point its share holds, beyond the last one that one's.",
    )

    def mistakes(self) -> list[str]:
        """What is wrong with the table, if it is used."""
        found = super().mistakes()
        if self.schedule == "table":
            try:
                points(self.schedule_table)
            except ValueError as error:
                found.append(f"schedule_table: {error}")
        return found


def share(config: ScheduleConfig, step: int, total: int) -> float:
    """Share of the peak learning rate that step number ``step`` (from 0) is made with.

    A linear warm-up over ``w = round(warmup_fraction * total)`` steps gives ``(step + 1) / w``. Then, with
    the progress ``p = (step - w) / (total - w)`` and the final share ``f``::

        constant      1
        linear        1 - (1 - f) p
        cosine        f + (1 - f) (1 + cos(pi p)) / 2           (Loshchilov & Hutter 2017, arXiv:1608.03983)
        polynomial    f + (1 - f) (1 - p)^power
        inverse-sqrt  sqrt(w / (step + 1))                      (Vaswani et al. 2017, arXiv:1706.03762)
        wsd           1, and in the last decay_fraction of the training, with its progress q,
                      1 - (1 - f) d(q) with d one of q, (1 - cos(pi q)) / 2, sqrt(q), q^2
                                                                (Hägele et al. 2024, arXiv:2405.18392)
        restarts      the cosine again and again, in cycles each of which is longer than the one before it
                      by cycle_growth                           (SGDR: as for the cosine)
        step          drop_factor^floor(p (drops + 1))

    ``one-cycle`` rises along a cosine from start_fraction to 1 at step ``w - 1``, and falls along another
    to f at step ``total - 1`` (Smith & Topin 2019, arXiv:1708.07120, as torch has it; the momentum stays).
    ``table`` has a warm-up only if its points have.

    A training that goes on beyond ``total`` steps keeps the share that it has there.

    :raises ValueError: the table cannot be read
    """
    if config.schedule == "table":
        return _between(points(config.schedule_table), step)
    warmup = round(config.warmup_fraction * total)
    final = config.final_fraction
    if config.schedule == "one-cycle":
        return _one_cycle(config.start_fraction, final, warmup, total, step)
    if step < warmup:
        return (step + 1) / warmup
    step = min(step, total)
    done, left = step - warmup, total - warmup
    progress = done / left if left else 1.0
    match config.schedule:
        case "constant":
            return 1.0
        case "inverse-sqrt":
            return math.sqrt(max(warmup, _LEAST_WARMUP) / (step + 1))
        case "polynomial":
            return final + (1.0 - final) * math.pow(1.0 - progress, config.power)
        case "wsd":
            decay = round(config.decay_fraction * total)
            start = max(warmup, total - decay)
            if step < start or not decay:
                return 1.0
            progress = (step - start) / (total - start) if step < total else 1.0
            return _fallen(config.decay_shape, progress, final)
        case "restarts":
            return _fallen("cosine", _in_cycle(done, left, config.cycles, config.cycle_growth), final)
        case "step":
            falls = done * (config.drops + 1) // left if done < left else config.drops
            return float(config.drop_factor**falls)
    return _fallen(config.schedule, progress, final)


def _fallen(shape: str, progress: float, final: float) -> float:
    """From 1 at progress 0 to ``final`` at progress 1."""
    fall = {
        "linear": progress,
        "cosine": (1.0 - math.cos(math.pi * progress)) / 2.0,
        "sqrt": math.sqrt(progress),
        "square": progress**2,
    }
    return 1.0 - (1.0 - final) * fall[shape]


def _one_cycle(start: float, final: float, warmup: int, total: int, step: int) -> float:
    peak = warmup - 1
    if step < peak:
        return start + (1.0 - start) * (1.0 - math.cos(math.pi * step / peak)) / 2.0
    last = total - 1
    return _fallen("cosine", (step - peak) / (last - peak) if step < last else float(last > peak), final)


def _in_cycle(done: int, left: int, cycles: int, growth: float) -> float:
    """Progress in the cycle that step ``done`` of ``left`` belongs to; 1 at the very end."""
    if done >= left:
        return 1.0
    if growth == 1:
        begins = [left * cycle / cycles for cycle in range(cycles + 1)]
    else:
        begins = [left * (growth**cycle - 1) / (growth**cycles - 1) for cycle in range(cycles + 1)]
    cycle = min(bisect_right(begins, done), cycles) - 1
    return (done - begins[cycle]) / (begins[cycle + 1] - begins[cycle])


@lru_cache(maxsize=64)
def points(table: str) -> Points:
    """Read ``"0:0.1, 300:1, 600:0"``: steps, growing, with shares of the peak learning rate.

    :raises ValueError: what is wrong with it, in words
    """
    found: list[tuple[int, float]] = []
    for part in table.split(","):
        step, colon, value = part.partition(":")
        try:
            point = int(step), float(value)
        except ValueError:
            point = None
        if not colon or point is None:
            raise ValueError(f"{part.strip()!r} is no point: write step:share, as in '0:0.1, 300:1, 600:0'")
        if point[0] < 0 or not 0 <= point[1] < math.inf:
            raise ValueError(f"{part.strip()}: steps and shares are not negative, shares finite")
        if found and point[0] <= found[-1][0]:
            raise ValueError(f"step {point[0]} follows step {found[-1][0]}: steps must grow")
        found.append(point)
    return tuple(found)


def _between(table: Points, step: int) -> float:
    """The value at a step, on straight lines between the points."""
    later = bisect_right(table, step, key=lambda point: point[0])
    if later in (0, len(table)):
        return table[max(0, later - 1)][1]
    (start, low), (end, high) = table[later - 1], table[later]
    return low + (high - low) * (step - start) / (end - start)
