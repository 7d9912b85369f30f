"""Loss laws: Hoffmann et al.'s data, and planted laws of which the truth is known.

``python -m bench loss_laws [--draws 200] [--designs 0,1,2]``

- The fit of ``chinchilla.csv`` (in the folder that ``TRIMTAB_BENCH_DATA`` names, by default
``../shared/data``
  beside the repository) without its five highest losses and with them, beside Besiroglu et al.'s (2024).
- Coverage: how many of the 90 % intervals hold the truth, over draws of noisy runs of a planted law.
- Alarms: how often a true power law is called bent or decided by a few runs, and how often a broken one is.
- Seconds of a fit of 2,000 runs with 200 bootstrap draws.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from search.laws.base import Array, Interval, Runs
from search.laws.loss import LossFit, fit_loss
from search.laws.table import runs_from_columns

Noise = Callable[[np.random.Generator, int], Array]
LAW = {"E": 1.8, "A": 480.0, "alpha": 0.35, "B": 2100.0, "beta": 0.37}
TARGET = (7e10, 1.4e12)
PUBLISHED = {"E": 1.817, "A": 478.0, "alpha": 0.347, "B": 2143.0, "beta": 0.367, "a": 0.514}
"""Of the replication, on the 240 points."""


def main(arguments: Sequence[str], console: Console) -> int:
    """Print the tables. Exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench loss_laws", description=__doc__)
    parser.add_argument("--draws", type=int, default=200, help="planted laws, each with its noise")
    parser.add_argument("--designs", default="0,1,2", help="which planted runs, by number; empty for none")
    given = parser.parse_args(arguments)
    path = data_folder() / "chinchilla.csv"
    if path.is_file():
        console.print(chinchilla_table(chinchilla()))
    else:
        console.print(f"no {path}: name its folder in TRIMTAB_BENCH_DATA", style="yellow")
    console.print(seconds())
    for design in given.designs.split(",") if given.designs else ():
        console.print(planted_table(int(design), given.draws))
    return 0


def data_folder() -> Path:
    """Where the measured data are."""
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("TRIMTAB_BENCH_DATA") or default)


def chinchilla() -> Runs:
    """All 245 runs, the highest losses last."""
    with (data_folder() / "chinchilla.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return runs_from_columns(columns, {"n": "N", "d": "D", "loss": "loss"})


def chinchilla_table(runs: Runs) -> Table:
    """Parameters without the five highest losses and with them."""
    table = Table(title="chinchilla.csv: value (90 % interval)")
    for heading in ("", "replication", "240 runs", "all 245"):
        table.add_column(heading)
    fits = [fit_loss(first(runs, count), {}, 0, lambda _: None) for count in (240, 245)]
    named = [fit.parameters() for fit in fits]
    for name, published in PUBLISHED.items():
        table.add_row(name, f"{published:g}", *(_shown(values[name]) for values in named))
    table.add_row("Huber objective", "0.0010183", *(f"{fit.huber:.7f}" for fit in fits))
    table.add_row("cautions", "", *(", ".join(c.code for c in fit.cautions) for fit in fits))
    return table


def first(runs: Runs, count: int) -> Runs:
    """The first so many runs."""
    return Runs(
        n=runs.n[:count],
        d=runs.d[:count],
        lr=runs.lr[:count],
        batch=runs.batch[:count],
        loss=runs.loss[:count],
    )


def seconds() -> str:
    """How long 2,000 runs with 200 draws take."""
    rng = np.random.default_rng(0)
    runs = noisy(*random_cells(rng, 2_000), rng, normal)
    begun = time.perf_counter()
    fit_loss(runs, {}, 0, lambda _: None)
    return f"2,000 runs, 200 bootstrap draws, one thread: {time.perf_counter() - begun:.1f} s"


def planted(n: Array, d: Array, broken: str = "") -> Array:
    """The planted law's loss. ``broken``: N or D, whose exponent halves in the middle of its range.

    Caballero et al.'s (2022) form: the term is multiplied by (1 + (x / x_break)^(1 / f))^(c f), f 0.3.
    """
    terms = {"N": LAW["A"] * n ** -LAW["alpha"], "D": LAW["B"] * d ** -LAW["beta"]}
    if broken:
        x = n if broken == "N" else d
        ratio = x / np.exp(np.mean(np.log([x.min(), x.max()])))
        terms[broken] = terms[broken] * (1 + ratio ** (1 / 0.3)) ** (0.3 * LAW["alpha"] / 2)
    return np.asarray(LAW["E"] + terms["N"] + terms["D"])


def noisy(n: Array, d: Array, rng: np.random.Generator, noise: Noise, broken: str = "") -> Runs:
    """Runs of the planted law."""
    nothing = np.full(len(n), np.nan)
    loss = planted(n, d, broken) * np.exp(noise(rng, len(n)))
    return Runs(n=n, d=d, lr=nothing, batch=nothing, loss=loss)


def normal(rng: np.random.Generator, count: int) -> Array:
    """Half a per cent."""
    return rng.normal(0.0, 0.005, count)


def heavy(rng: np.random.Generator, count: int) -> Array:
    """Student's t of 3 degrees of freedom."""
    return np.asarray(0.004 * rng.standard_t(3, count))


def grid_cells(rng: np.random.Generator, side: int) -> tuple[Array, Array]:
    """A grid of model sizes and numbers of tokens."""
    n, d = np.meshgrid(np.geomspace(3e7, 3e9, side), np.geomspace(1e9, 1e11, side))
    return n.ravel(), d.ravel()


def random_cells(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Model sizes of 30 M to 10 B with 1 to 300 tokens to a parameter."""
    n = 10 ** rng.uniform(7.5, 10.0, count)
    return n, n * 10 ** rng.uniform(0.0, 2.5, count)


DESIGNS: tuple[tuple[str, Callable[[np.random.Generator, int], tuple[Array, Array]], int, Noise], ...] = (
    ("grid of 16 cells, normal noise", grid_cells, 4, normal),
    ("100 runs at random, heavy tails", random_cells, 100, heavy),
    ("245 runs at random, normal noise", random_cells, 245, normal),
)


def fits(design: int, draws: int, broken: str = "", drawn: int = 100) -> list[LossFit]:
    """Fits of so many draws of a design, with ``drawn`` of the bootstrap each."""
    _, cells, size, noise = DESIGNS[design]
    found = []
    for draw in range(draws):
        rng = np.random.default_rng([draw, design])
        found.append(
            fit_loss(noisy(*cells(rng, size), rng, noise, broken), {"draws": drawn}, draw, lambda _: None)
        )
    return found


def covered(fitted: Sequence[LossFit]) -> dict[str, float]:
    """The share of 90 % intervals that hold the truth."""
    truth = {**LAW, "a": LAW["beta"] / (LAW["alpha"] + LAW["beta"])}
    n, d = TARGET
    loss = float(planted(np.array([n]), np.array([d]))[0])
    g = (LAW["alpha"] * LAW["A"] / LAW["beta"] / LAW["B"]) ** (1 / (LAW["alpha"] + LAW["beta"]))
    best_n = g * (n * d) ** truth["a"]
    hits: dict[str, list[bool]] = {}
    for fit in fitted:
        named, at = fit.parameters(), fit.predict(n, d)
        for name in ("E", "alpha", "beta", "a"):
            hits.setdefault(name, []).append(_holds(named[name], truth[name]))
        assert at.best_n is not None
        hits.setdefault("loss at the target", []).append(_holds(at.loss, loss))
        hits.setdefault("best N there", []).append(_holds(at.best_n, best_n))
    return {name: float(np.mean(values)) for name, values in hits.items()}


def alarms(fitted: Sequence[LossFit]) -> dict[str, float]:
    """How often a caution was raised."""
    codes = [{caution.code for caution in fit.cautions} for fit in fitted]
    return {code: float(np.mean([code in own for own in codes])) for code in ("bent", "influence")}


def planted_table(design: int, draws: int) -> Table:
    """Of one design: the shares of intervals that hold the truth, and how often laws are called bent."""
    table = Table(title=f"{DESIGNS[design][0]}, {draws} draws; target N 7e10, D 1.4e12")
    for heading in ("what", "share"):
        table.add_column(heading)
    true = fits(design, draws)
    for name, share in covered(true).items():
        table.add_row(f"90 % intervals of {name} that hold the truth", f"{share:.1%}")
    for code, share in alarms(true).items():
        table.add_row(f"true laws with the caution {code}", f"{share:.1%}")
    for where in ("N", "D"):
        share = alarms(fits(design, draws // 4, where, 20))["bent"]
        table.add_row(f"bent, of {draws // 4} laws whose exponent of {where} halves midway", f"{share:.1%}")
    return table


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})"
