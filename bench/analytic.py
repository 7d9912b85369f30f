"""``python -m bench analytic``: ``bo`` and Ax's own client on functions whose optimum is known.

Both get as many evaluations, one after the other, with the same noise. Ax is used plainly, as its front
page says: a client, ``configure_experiment``, ``configure_optimization``, its own generation strategy.
Conditions, which it cannot be told plainly, it is not told: it searches all parameters at once.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.analytic_functions import LOSS, Function, Metrics, Params, functions
from bench.search.results import Row, Rows, mean_and_error
from search.decide import decide
from search.decision import Launch
from search.space import ParamValue, SearchSpace
from search.view import Fidelity, Limit, Objective, StudyView, TrialView

ROWS = Path(__file__).parent / "analytic.jsonl"
OURS, PEER = "bo", "ax"


def main(arguments: Sequence[str], console: Console) -> int:
    """Run the studies that have no row yet, and print the table."""
    every = functions()
    parser = argparse.ArgumentParser(prog="python -m bench analytic", description=__doc__)
    parser.add_argument("--functions", default=",".join(every), help="names, by commas")
    parser.add_argument("--engines", default=f"{PEER},{OURS}", help="names, by commas")
    parser.add_argument("--seeds", type=int, default=20, help="how many, from --first-seed")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, default=ROWS, help="where rows are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is kept")
    given = parser.parse_args(arguments)
    names = given.functions.split(",")
    engines = given.engines.split(",")
    if unknown := [name for name in names if name not in every]:
        parser.error(f"no function {unknown[0]!r}; there are: {', '.join(every)}")
    if unknown := [name for name in engines if name not in (OURS, PEER)]:
        parser.error(f"no engine {unknown[0]!r}; there are: {OURS}, {PEER}")
    rows = Rows(given.rows)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if not given.table:
        for seed in seeds:
            for name in names:
                for engine in engines:
                    if rows.get((name, engine, 1, seed)) is None:
                        row = run(every[name], engine, seed)
                        rows.add(row)
                        score = row.regrets[str(every[name].evaluations)]
                        console.print(
                            f"{name} {engine} {seed}: {score:.4g}, {row.seconds:.0f} s", style="dim"
                        )
    console.print(
        table([row for row in rows.by_key.values() if row.problem in names and row.seed in seeds])
    )
    return 0


def run(function: Function, engine: str, seed: int) -> Row:
    """One study to its end."""
    evaluated: list[Params] = []
    noise = np.random.default_rng([seed, 1])

    def measure(params: Params) -> Metrics:
        evaluated.append(params)
        measured = function.evaluate(params)
        measured[LOSS] += function.noise_sd * float(noise.standard_normal())
        return measured

    begun = time.process_time()
    (_ours if engine == OURS else _ax)(function, measure, seed)
    seconds = time.process_time() - begun
    count = function.evaluations
    distinct = {json.dumps(params, sort_keys=True) for params in evaluated}
    regrets = {str(count): function.score(evaluated)}
    twice = count - len(distinct)
    return Row(function.name, engine, 1, seed, count, regrets, count, twice, count, round(seconds, 2))


def _ours(function: Function, measure: Callable[[Params], Metrics], seed: int) -> None:
    space = SearchSpace.from_json(function.space)
    trials: list[TrialView] = []
    for number in range(1, function.evaluations + 1):
        view = StudyView(
            space,
            Fidelity(1, 1, 1),
            False,
            "bo",
            trials=tuple(trials),
            seed=seed,
            objectives=tuple(Objective(metric, False) for metric in function.objectives),
            limits=tuple(Limit(metric, bound, True) for metric, bound in function.limits.items()),
        )
        (launch,) = decide(view, 1, seed).decisions
        assert isinstance(launch, Launch)
        measured = measure(launch.params)
        values = (measured.pop(LOSS),)
        trials.append(
            TrialView(number, launch.params, "completed", (1,), values, 1, 1, 1, outcomes=measured)
        )


def _ax(function: Function, measure: Callable[[Params], Metrics], seed: int) -> None:
    import torch
    from ax.api.client import Client

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)
    logging.getLogger("ax.api.client").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = Client(random_seed=seed)
        given = function.shares[:-1]
        client.configure_experiment(
            list(_ax_parameters(function)),
            parameter_constraints=[" + ".join(_ax_name(share) for share in given) + " <= 1"]
            if given
            else [],
        )
        goals = ", ".join(f"-{metric}" for metric in (LOSS, *function.objectives))
        client.configure_optimization(
            goals, [f"{name} <= {bound}" for name, bound in function.limits.items()]
        )
        for _ in range(function.evaluations):
            ((index, point),) = client.get_next_trials(max_trials=1).items()
            client.complete_trial(index, measure(_from_ax(function, point)))


def _ax_name(name: str) -> str:
    return name.replace("/", "_")


def _ax_parameters(function: Function) -> Iterator[Any]:
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    if function.shares:
        for share in function.shares[:-1]:
            yield RangeParameterConfig(name=_ax_name(share), bounds=(0.0, 1.0), parameter_type="float")
        return
    for name, said in function.space.items():
        if said["type"] == "float":
            yield RangeParameterConfig(
                name=name,
                bounds=(said["low"], said["high"]),
                parameter_type="float",
                scaling="log" if said.get("log") else "linear",
            )
        elif said["type"] == "bool":
            yield ChoiceParameterConfig(name=name, values=[False, True], parameter_type="bool")
        else:
            yield ChoiceParameterConfig(
                name=name, values=said["choices"], parameter_type="str", is_ordered=False
            )


def _from_ax(function: Function, point: Mapping[str, Any]) -> Params:
    if not function.shares:
        return dict(point)
    shares: dict[str, ParamValue] = {share: point[_ax_name(share)] for share in function.shares[:-1]}
    shares[function.shares[-1]] = max(0.0, 1 - sum(float(value) for value in shares.values()))
    return shares


def table(rows: Sequence[Row]) -> Table:
    """What either side misses, mean and standard error over seeds, and their difference on the same seeds.

    ``bo`` is within noise of Ax or better where its mean is not more than two standard errors of the paired
    difference above Ax's.
    """
    printed = Table(title="missed at the end: mean ± standard error (median)")
    for heading in ("function", "evaluations", "seeds", "bo", "ax", "bo - ax", "", "s/suggestion bo, ax"):
        printed.add_column(heading)
    for name, function in functions().items():
        budget = str(function.evaluations)
        own = {(row.engine, row.seed): row for row in rows if row.problem == name}
        seeds = [s for engine, s in sorted(own) if engine == OURS and (PEER, s) in own]
        if not seeds:
            continue
        missed = {engine: [own[engine, s].regrets[budget] for s in seeds] for engine in (OURS, PEER)}
        difference, error, _ = mean_and_error(
            a - b for a, b in zip(missed[OURS], missed[PEER], strict=True)
        )
        pace = [
            statistics.fmean(own[engine, s].seconds for s in seeds) / function.evaluations
            for engine in (OURS, PEER)
        ]
        verdict = "[bold]better[/bold]" if difference < -2 * error else "within noise"
        printed.add_row(
            name,
            budget,
            str(len(seeds)),
            *(_words(missed[engine]) for engine in (OURS, PEER)),
            f"{difference:+.3g} ± {error:.2g}",
            "[red]worse[/red]" if difference > 2 * error else verdict,
            " / ".join(f"{seconds:.2f}" for seconds in pace),
        )
    return printed


def _words(values: Sequence[float]) -> str:
    mean, error, _ = mean_and_error(values)
    return f"{mean:.3g} ± {error:.2g} ({statistics.median(values):.3g})"
