"""Choosing for a large model on small ones: ``mf-bo`` beside engines that only train the large one.

``python -m bench mixtures --seeds 5``

Two tasks of our own making, their coefficients drawn anew for each seed:

``mixture``
    a data mixture of five domains for a model of 1,000 million parameters, with proxies of 30, 100 and 300.
    The validation loss is a weighted sum of one law per domain, in the shape of D-CPT (Que et al., 2024):
    L_j = E_j + A_j N^-a_j + B_j N^-b_j / (s_j + e)^g_j, where s_j is what the mixture holds of the domain,
    and of what teaches it too. Larger models need less of some domains than of others, so that the best
    mixture moves with the size.
``recipe``
    learning rate, batch size, weight decay, warm-up and schedule of a model of width 128 to 2,048. The best
    learning rate falls with the width (width^-0.5 to width^-1), and much beyond it training diverges.

Both have noise of a tenth of what separates the best from the best 1 % of random configurations. A
training costs 0.04 of one at the target and for the rest in proportion to the model's size, times 1 to 1.1
at random; engines are told the seconds. Regret is that of the configuration with the best value *measured
at the target*, by its loss without noise, over that of the median of random configurations; it is read at
equal cost, in trainings at the target.

``botorch`` is what BoTorch's multi-fidelity tutorial puts together: a SingleTaskMultiFidelityGP with the
linear-truncated kernel, max-value entropy per cost, and an affine cost model that knows the true cost; it
chooses among 200 random configurations at each size. Like in the tutorial it is judged by what its model
recommends, after every step, at the price of one more training at the target.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.search.children import CACHE
from bench.search.results import mean_and_error
from search.along import Along
from search.domains import ParamValue
from search.features import Features
from search.sampling import candidates
from search.simulator import Budget, Params, simulate
from search.space import SearchSpace
from search.strategies.moves import near
from search.view import Fidelity

TASKS = ("mixture", "recipe")
ENGINES = ("mf-bo", "bo", "random", "botorch")
BUDGET = 12.0
"""Of a study, in trainings at the target."""
SHOWN = (2.0, 3.0, 6.0, 12.0)
"""Costs at which regret is read."""
COMPARED = (6.0, 9.0, 12.0)
"""Costs of ``bo`` whose regret the others are to reach."""
GRID = tuple(round(0.25 * i, 2) for i in range(1, int(4 * BUDGET) + 1))
OPTIONS: Mapping[str, Mapping[str, ParamValue]] = {"bo": {"initial_trials": 5}}
"""Its own design of twelve trainings would leave nothing for its model."""
DOMAINS = ("web", "code", "math", "books", "papers")


@dataclass(frozen=True)
class Task:
    """Something to be tuned along a parameter."""

    space: SearchSpace
    along: Along
    loss: Callable[[Params], float]
    """Without noise; NaN if training diverges."""
    noise: float
    best: float
    """At the target, of a long search."""
    median: float

    @classmethod
    def of(cls, space: SearchSpace, along: str, loss: Callable[[Params], float], seed: int) -> Task:
        """With the scale of its losses, from 20,000 random configurations and a search from the best."""
        found = Along.read({"along": along}, space)
        assert found is not None
        rng = np.random.default_rng([seed, 1])
        tried = candidates(found.at_target, 20_000, rng)
        losses = np.array([loss(params) for params in tried])
        best, median = float(np.nanmin(losses)), float(np.nanmedian(losses))
        elite = [tried[i] for i in np.argsort(np.where(np.isnan(losses), np.inf, losses))[:20].tolist()]
        for scale in (0.1, 0.03, 0.01, 0.003):
            table = near(found.at_target, found.at_target.layout.read(elite), 4_000, (scale,), rng)
            more = found.at_target.layout.write(table)
            values = [loss(params) for params in more]
            order = np.argsort(np.where(np.isnan(values), np.inf, values))[:20].tolist()
            elite = [more[i] for i in order]
            best = min(best, float(np.nanmin(values)))
        good = float(np.nanquantile(losses, 0.01))
        return cls(space, found, loss, 0.1 * (good - best), best, median)

    def regret(self, params: Params) -> float:
        """Of a configuration at the target: 0 the best, 1 the median of random ones."""
        loss = self.loss(params)
        return (
            1.0 if math.isnan(loss) else min(1.0, max(0.0, (loss - self.best) / (self.median - self.best)))
        )

    def measured(self, params: Params, seed: int) -> float:
        """The loss with the noise of this configuration."""
        return self.loss(params) + self.noise * _draw(params, seed).standard_normal()

    def cost(self, params: Params, seed: int) -> float:
        """In trainings at the target, about."""
        share = 0.04 + 0.96 * float(params[self.along.name]) / float(self.along.target)
        return share * (1 + 0.1 * float(_draw(params, seed + 1).random()))


def _draw(params: Params, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(repr(sorted(params.items())).encode())])


def mixture(seed: int) -> Task:
    """See the module."""
    rng = np.random.default_rng([seed, 10])
    count = len(DOMAINS)
    floor, height = rng.uniform(1.2, 2.2, count), rng.uniform(1.0, 2.0, count)
    falls = rng.uniform(0.2, 0.35, count)
    need, eased = rng.uniform(0.05, 0.25, count), rng.uniform(0.0, 0.25, count)
    power = rng.uniform(0.3, 0.8, count)
    weights = rng.dirichlet(np.full(count, 3.0))
    teaches = np.eye(count) + rng.uniform(0.0, 0.3, (count, count)) * (1 - np.eye(count))

    def loss(params: Params) -> float:
        shares = np.array([float(params[f"mix/{domain}"]) for domain in DOMAINS])
        size = float(params["million"]) / 10
        held = teaches @ shares + 0.01
        losses = floor + height * size**-falls + need * size**-eased * held**-power
        return float(weights @ losses)

    document = {
        "mix": {"type": "simplex", "parts": list(DOMAINS)},
        "million": {"type": "ordered", "values": [30, 100, 300, 1000]},
    }
    return Task.of(SearchSpace.from_json(document), "million", loss, seed)


def recipe(seed: int) -> Task:
    """See the module."""
    rng = np.random.default_rng([seed, 20])
    lr, falls = rng.uniform(-2.7, -2.0), rng.uniform(0.5, 1.0)
    batch, decay, warm = rng.uniform(5.5, 8.5), rng.uniform(-2.0, -0.5), rng.uniform(0.02, 0.12)
    schedules = ("constant", "linear", "cosine")
    lack = dict(zip(schedules, rng.permutation([0.0, 0.02, 0.08]).tolist(), strict=True))

    def loss(params: Params) -> float:
        wider = math.log10(float(params["width"]) / 128)
        off = math.log10(float(params["lr"])) - (lr - falls * wider)
        size = math.log2(float(params["batch_size"]))
        off -= 0.15 * (size - batch)  # larger batches want larger learning rates
        if off > 1.0:
            return math.nan
        value = 1.8 + 1.6 * 10 ** (-0.35 * wider)
        value += 0.25 * off**2 * (1.5 if off > 0 else 1.0)
        value += 0.02 * (size - batch) ** 2
        value += 0.04 * (math.log10(float(params["weight_decay"])) - decay - 0.2 * wider) ** 2
        value += 4.0 * (float(params["warmup"]) - warm) ** 2
        return value + float(lack[str(params["schedule"])])

    document = {
        "lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "batch_size": {"type": "ordered", "values": [16, 32, 64, 128, 256, 512, 1024]},
        "weight_decay": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
        "warmup": {"type": "float", "low": 0.0, "high": 0.2},
        "schedule": {"type": "categorical", "choices": list(schedules)},
        "width": {"type": "int", "low": 128, "high": 2048, "log": True},
    }
    return Task.of(SearchSpace.from_json(document), "width", loss, seed)


def study(task: Task, engine: str, seed: int) -> list[float]:
    """Regret of the best configuration trained at the target, at each cost of ``GRID``."""
    if engine == "botorch":
        steps = _botorch(task, seed)
    else:
        alone = engine != "mf-bo"
        history = simulate(
            task.along.at_target if alone else task.space,
            Fidelity(1, 1, 1),
            lambda params, step: task.measured(params, seed),
            Budget(seconds=BUDGET),
            strategy=engine,
            options={"along": task.along.name} if engine == "mf-bo" else OPTIONS.get(engine, {}),
            seconds_per_unit=lambda params: task.cost(params, seed),
            seed=seed,
        )
        trials = {trial.number: trial for trial in history.trials}
        steps = [(point.seconds, task.regret(trials[point.trial].params)) for point in history.best]
    return [next((r for cost, r in reversed(steps) if cost <= at), 1.0) for at in GRID]


def _botorch(task: Task, seed: int) -> list[tuple[float, float]]:
    """Costs with the regret of what the model then recommends, that training paid."""
    import torch
    from botorch.acquisition.cost_aware import InverseCostWeightedUtility
    from botorch.acquisition.max_value_entropy_search import qMultiFidelityLowerBoundMaxValueEntropy
    from botorch.fit import fit_gpytorch_mll
    from botorch.models.cost import AffineFidelityCostModel
    from botorch.models.gp_regression_fidelity import SingleTaskMultiFidelityGP
    from botorch.models.transforms.outcome import Standardize
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 30])
    features, target = Features.of(task.along.at_target), task.along.target
    levels = {value: float(value) / float(target) for value in task.along.levels}
    values: list[float] = []
    rows: list[list[float]] = []
    worst = -math.inf

    def train(params: Mapping[str, ParamValue], value: ParamValue) -> float:
        nonlocal worst
        moved = task.along.at(params, value)
        loss = task.measured(moved, seed)
        worst = max(worst, loss) if math.isfinite(loss) else worst
        rows.append([*features.encode([params])[0].tolist(), levels[value]])
        values.append(loss)
        return task.cost(moved, seed)

    spent = sum(
        train(params, task.along.levels[i % 2])
        for i, params in enumerate(candidates(task.along.at_target, 10, rng))
    )
    steps: list[tuple[float, float]] = []
    while spent < BUDGET:
        X = torch.tensor(rows, dtype=torch.float64)
        Y = -torch.tensor([v if math.isfinite(v) else worst for v in values], dtype=torch.float64)[:, None]
        place = X.shape[1] - 1
        model = SingleTaskMultiFidelityGP(X, Y, data_fidelities=[place], outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        pool = candidates(task.along.at_target, 200, rng)
        at_target = np.column_stack([features.encode(pool), np.ones(len(pool))])
        tensor = torch.tensor(at_target, dtype=torch.float64)
        with torch.no_grad():
            top = int(model.posterior(tensor).mean.argmax())
        steps.append((spent + task.cost(pool[top], seed), task.regret(pool[top])))
        cost = InverseCostWeightedUtility(AffineFidelityCostModel({place: 0.96}, fixed_cost=0.04))

        def project(points: Any) -> Any:
            lifted = points.clone()
            lifted[..., -1] = 1.0
            return lifted

        gain = qMultiFidelityLowerBoundMaxValueEntropy(
            model, tensor, cost_aware_utility=cost, project=project
        )
        worths = []
        for share in levels.values():
            asked = tensor.clone()
            asked[:, -1] = share
            with torch.no_grad():
                worths.append(gain(asked[:, None, :]).numpy())
        level, choice = np.unravel_index(int(np.argmax(worths)), (len(levels), len(pool)))
        spent += train(pool[int(choice)], list(levels)[int(level)])
    return sorted(steps)


def main(arguments: Sequence[str], console: Console) -> int:
    """Run the studies that have no row yet, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench mixtures", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", default=",".join(TASKS), help="by commas")
    parser.add_argument("--engines", default=",".join(ENGINES), help="by commas")
    parser.add_argument("--rows", type=Path, default=CACHE / "mixtures.jsonl", help="where rows are kept")
    parser.add_argument("--table", action="store_true", help="run nothing, print what is in the cache")
    given = parser.parse_args(arguments)
    rows: dict[tuple[str, str, int], list[float]] = {}
    if given.rows.is_file():
        for line in given.rows.read_text().splitlines():
            row = json.loads(line)
            rows[row["task"], row["engine"], row["seed"]] = row["regrets"]
    tasks = [task for task in TASKS if task in given.tasks.split(",")]
    engines = [engine for engine in ENGINES if engine in given.engines.split(",")]
    for seed, name in product(range(given.seeds), tasks):
        missing = [engine for engine in engines if (name, engine, seed) not in rows]
        if given.table or not missing:
            continue
        task = {"mixture": mixture, "recipe": recipe}[name](seed)
        for engine in missing:
            regrets = study(task, engine, seed)
            rows[name, engine, seed] = regrets
            given.rows.parent.mkdir(parents=True, exist_ok=True)
            with given.rows.open("a") as file:
                file.write(
                    json.dumps({"task": name, "engine": engine, "seed": seed, "regrets": regrets}) + "\n"
                )
            shown = " / ".join(f"{regrets[GRID.index(at)]:.4f}" for at in SHOWN)
            console.print(f"{name} {engine} seed {seed}: {shown}", style="dim")
    console.print(*(table(name, {k[1:]: r for k, r in rows.items() if k[0] == name}) for name in tasks))
    return 0


def table(task: str, rows: Mapping[tuple[str, int], Sequence[float]]) -> Table:
    """Regrets at equal cost, and the cost of coming to ``bo``'s, on the seeds that all engines have run."""
    engines = [engine for engine in ENGINES if any(key[0] == engine for key in rows)]
    seeds = sorted({seed for _, seed in rows if all((engine, seed) in rows for engine in engines)})
    printed = Table(title=f"{task}: regret at equal cost (trainings at the target), {len(seeds)} seeds")
    printed.add_column("engine")
    for heading in (*SHOWN, *(f"cost to bo's regret at {at:g}" for at in COMPARED)):
        printed.add_column(heading if isinstance(heading, str) else f"{heading:g}", justify="right")
    curves = {e: np.array([rows[e, seed] for seed in seeds]) for e in engines if seeds}
    for engine, found in curves.items():
        cells = []
        for at in SHOWN:
            mean, error, _ = mean_and_error(found[:, GRID.index(at)].tolist())
            cells.append(f"{mean:.4f} ± {error:.4f}")
        for at in COMPARED if "bo" in curves else ():
            goal = curves["bo"].mean(axis=0)[GRID.index(at)]
            reached = np.flatnonzero(found.mean(axis=0) <= goal)
            if len(reached):
                needed = GRID[int(reached[0])]
                cells.append(f"{needed:g} ({needed / at:.2f}x)")
            else:
                cells.append(f"over {BUDGET:g}")
        printed.add_row(engine, *cells)
    return printed
