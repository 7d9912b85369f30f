"""From history to decision: how long a strategy thinks, beside Ax and Optuna's GP sampler.

Each engine gets as many trials. `curve-bo` decides on all points of their curves, with each of its
surrogates; "auto" is when it has scored them before, "auto, scores" when it must. The peers know no curves:
they are told one value of each trial, as if it was trained to the end.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from rich.table import Table

from bench.search.ours import variant
from search.decide import decide
from search.space import SearchSpace
from search.surrogates.registry import names
from search.view import Fidelity, StudyView, TrialStatus, TrialView

HISTORIES = ((100, 2_000), (300, 10_000), (1_000, 50_000))
"""Trials and points of all their curves."""
GROWTH = ((2_000, 100_000), (5_000, 500_000))
"""For `curve-bo` alone: the peers would take minutes."""
DIMENSIONS = 7
REPEATS = 7
PATIENCE = 60.0
"""Seconds after which a peer is not asked again."""


def history(trials: int, points: int, strategy: str, whole: bool) -> StudyView:
    """A study of curves of many lengths that fall like a power of the step.

    ``whole``: each trial is trained to the end and known by its last value only.
    """
    rng = np.random.default_rng(trials)
    last = max(4, 3 * points // trials)
    space = SearchSpace.from_json(
        {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(DIMENSIONS)}
    )
    lengths = rng.exponential(1.0, trials)
    lengths = np.clip(np.round(lengths / lengths.sum() * points), 1, last).astype(int)
    views = []
    for number in range(1, trials + 1):
        x = rng.random(DIMENSIONS)
        end = float(((x - 0.4) ** 2 * np.linspace(2, 0.1, DIMENSIONS)).sum())
        stop = last if whole else int(lengths[number - 1])
        steps = (last,) if whole else tuple(range(1, stop + 1))
        fall = 0.5 + x[0]
        values = tuple(end + fall / math.sqrt(s) + 0.01 * rng.standard_normal() for s in steps)
        status: TrialStatus = "completed" if stop == last else "paused"
        params = {f"x{i}": float(x[i]) for i in range(DIMENSIONS)}
        views.append(TrialView(number, params, status, steps, values, stop, 2, stop, status == "paused"))
    return StudyView(space, Fidelity(1, last, 1), False, strategy, {}, tuple(views))


def ours(engine: str, trials: int, points: int) -> Callable[[int], object]:
    strategy, options = variant(engine)
    view = replace(history(trials, points, strategy, whole=strategy == "bo"), options=options)
    return lambda seed: decide(view, 1, seed)


def scoring(trials: int, points: int) -> Callable[[int], object]:
    """``auto`` when it must score the surrogates."""
    from search.surrogates.selection import choose_by_bytes

    choose = ours("curve-bo:surrogate=auto", trials, points)

    def suggest(seed: int) -> object:
        choose_by_bytes.cache_clear()
        return choose(seed)

    return suggest


def optuna_gp(trials: int, points: int) -> Callable[[int], object]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    view = history(trials, points, "random", whole=True)
    unit = optuna.distributions.FloatDistribution(0.0, 1.0)
    distributions: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(
        view.space.dimensions, unit
    )

    def suggest(seed: int) -> object:
        study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=dict(trial.params), distributions=distributions, value=trial.values[-1]
                )
                for trial in view.trials
            ]
        )
        begin = time.perf_counter()
        study.ask(distributions)
        return time.perf_counter() - begin

    return suggest


def run() -> Table:
    """Median seconds of a decision."""
    warnings.filterwarnings("ignore")
    table = Table(title="from history to decision, median seconds")
    table.add_column("trials / points")
    engines: dict[str, Callable[[int, int], Callable[[int], object]]] = {
        "curve-bo": partial(ours, "curve-bo"),
        **{name: partial(ours, f"curve-bo:surrogate={name}") for name in (*names()[1:], "auto")},
        "auto, scores": scoring,
        "ax (our bo)": partial(ours, "bo"),
        "optuna gp": optuna_gp,
    }
    for name in engines:
        table.add_column(name, justify="right")
    given_up: set[str] = set()
    for trials, points in HISTORIES + GROWTH:
        row = [f"{trials:,} / {points:,}"]
        for name, build in engines.items():
            if (trials, points) in GROWTH and name != "curve-bo":
                row.append("-")
                continue
            if name in given_up:
                row.append(f"over {PATIENCE:.0f}")
                continue
            suggest = build(trials, points)
            seconds: list[float] = []
            begun = time.perf_counter()
            for seed in range(REPEATS + 1):
                begin = time.perf_counter()
                told = suggest(seed)
                seconds.append(told if isinstance(told, float) else time.perf_counter() - begin)
                if time.perf_counter() - begun > PATIENCE:
                    given_up.add(name)
                    break
            # The first pays for imports.
            row.append(f"{statistics.median(seconds[1:] or seconds):.2f}")
        table.add_row(*row)
    return table
