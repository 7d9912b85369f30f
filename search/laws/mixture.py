"""The loss as a function of the share of a domain in the data, of model size and of data.

``L = E + A / N^alpha + B r^eta / D^beta + C / (r + epsilon)^gamma`` (D-CPT law: Que et al. 2024,
"Domain-specific continual pre-training scaling law", its third parametrization), r the share of the domain
whose loss it is. A loss over several domains is lowest somewhere between; the form ``whole`` has for it a
term ``C' / (1 - r + epsilon)^gamma'`` besides.

The law of a domain's own loss must fall with N, D and r. With N and D it does by its signs; with r where
``C gamma / (r + epsilon)^(gamma + 1)`` is at least ``B eta r^(eta - 1) / D^beta``, which is checked on the
runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np

from search.errors import Mistake, SearchError, did_you_mean
from search.laws import cautions as shared
from search.laws.base import Array, Caution, Family, Interval, LossPrediction, Progress, Runs
from search.laws.loss import HIGHEST_EXPONENT, check_target, checked_draws, lowest_of_cells
from search.laws.posynomial import Problem, bootstrap, interval, start_from
from search.laws.robustness import robust_deviation

FORMS = ("domain", "whole")
EPSILONS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Values of epsilon that are tried."""
_NAMES = ("E", "A", "alpha", "B", "eta", "beta", "C", "gamma")
_WHOLE = ("C'", "gamma'")
_LEAST_SHARE = 1e-6
"""Stands for a share of 0 in r^eta."""
_GRID = 201
"""Shares among which the best is sought."""

FEWEST_SHARES = 3
RISE = 0.001
"""A domain's law may rise with its share by this part of the loss, over the shares of the runs."""
FLAT = 0.5
"""The best share is not identified if its interval is wider than this part of the range of shares."""


@dataclass(frozen=True, slots=True, eq=False)
class MixtureFit:
    """A fitted mixture law."""

    form: str
    theta: Array
    """log E, log A, alpha, log B, eta, beta, log C, gamma (log C', gamma'); A and B at the centre."""
    epsilon: float
    draws: Array
    """Thetas of the bootstrap, shape (draws, p)."""
    draws_epsilon: Array
    centre: tuple[float, float]
    """Means of log N and log D."""
    cells: Array
    """The distinct (N, D, share), shape (cells, 3)."""
    huber: float
    spread: float
    """Robust standard deviation of the residuals in log loss."""
    counts: Mapping[str, int]
    cautions: tuple[Caution, ...]
    family: str = "mixture"

    @property
    def shares(self) -> tuple[float, float]:
        """The lowest and highest share of the runs."""
        return float(self.cells[:, 2].min()), float(self.cells[:, 2].max())

    def predict(self, n: float, d: float, share: float | None = None) -> LossPrediction:
        """The loss at N, D and a share (the best one, if none is named), and the best share.

        The best share is looked for within the shares of the runs. Raises SearchError for a target that
        cannot be.
        """
        best = best_share([(self, 1.0)], n, d)
        at = best.value if share is None else share
        if not 0 <= at <= 1:
            raise SearchError([Mistake("/target/share", f"is {at:g}", "a share is between 0 and 1")])
        low, high = self.shares
        found = [*self.cautions, *shared.of_target(self.cells[:, 0], self.cells[:, 1], n, d)]
        if not low <= at <= high:
            told = f"share {at:.3g} is outside of those that were run, {low:.3g} to {high:.3g}"
            found.append(Caution("outside-shares", told))
        if best.high - best.low > FLAT * (high - low):
            found.append(
                Caution(
                    "share-unidentified",
                    f"the best share may be anything from {best.low:.2f} to {best.high:.2f}",
                    grave=True,
                )
            )
        if best.value in (low, high):
            found.append(
                Caution(
                    "share-edge",
                    f"the loss is lowest at an end of the shares that were run, {best.value:.3g}: add runs "
                    "beyond, or weigh this loss against that of another domain",
                )
            )
        where = np.array([at])
        value = self.losses(n, d, where)[0]
        return LossPrediction(
            n=n,
            d=d,
            share=at,
            loss=self._interval(float(value[0]), self.drawn_losses(n, d, where)[:, 0]),
            best_n=None,
            best_d=None,
            cautions=tuple(found),
            best_share=best,
        )

    def losses(self, n: float, d: float, share: Array) -> Array:
        """The law's loss at shares, shape (1, shares)."""
        return self._evaluate(self.theta[None], np.array([self.epsilon]), n, d, share)

    def drawn_losses(self, n: float, d: float, share: Array) -> Array:
        """The same of each draw of the bootstrap, shape (draws, shares)."""
        return self._evaluate(self.draws, self.draws_epsilon, n, d, share)

    def summary(self) -> dict[str, Any]:
        """Parameters with intervals, the objective, the spread of the residuals, counts."""
        own, drawn = self._named(self.theta[None]), self._named(self.draws)
        parameters = {name: asdict(self._interval(float(own[name][0]), drawn[name])) for name in own}
        tail = " + C' / (1 - r + epsilon)^gamma'" if self.form == "whole" else ""
        return {
            "formula": f"L = E + A / N^alpha + B r^eta / D^beta + C / (r + epsilon)^gamma{tail}",
            "form": self.form,
            "parameters": parameters,
            "epsilon": self.epsilon,
            "shares": list(self.shares),
            "huber": self.huber,
            "spread": self.spread,
            "counts": dict(self.counts),
            "draws": len(self.draws),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "family": self.family,
            "form": self.form,
            "theta": self.theta.tolist(),
            "epsilon": self.epsilon,
            "draws": self.draws.tolist(),
            "draws_epsilon": self.draws_epsilon.tolist(),
            "centre": list(self.centre),
            "cells": self.cells.tolist(),
            "huber": self.huber,
            "spread": self.spread,
            "counts": dict(self.counts),
            "cautions": [asdict(caution) for caution in self.cautions],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            form=data["form"],
            theta=np.array(data["theta"]),
            epsilon=data["epsilon"],
            draws=np.array(data["draws"]),
            draws_epsilon=np.array(data["draws_epsilon"]),
            centre=(data["centre"][0], data["centre"][1]),
            cells=np.array(data["cells"]),
            huber=data["huber"],
            spread=data["spread"],
            counts=dict(data["counts"]),
            cautions=tuple(Caution(**caution) for caution in data["cautions"]),
        )

    def _evaluate(self, theta: Array, epsilon: Array, n: float, d: float, share: Array) -> Array:
        u = np.full(len(share), np.log(n) - self.centre[0])
        v = np.full(len(share), np.log(d) - self.centre[1])
        found = np.empty((len(theta), len(share)))
        for each in np.unique(epsilon):
            rows = epsilon == each
            terms = _terms(self.form, u, v, share, float(each))
            found[rows] = np.exp(np.einsum("tsp,rp->trs", terms, theta[rows])).sum(axis=0)
        return found

    def _named(self, theta: Array) -> dict[str, Array]:
        named = dict(zip((*_NAMES, *_WHOLE), theta.T, strict=False))
        named["A"] = named["A"] + named["alpha"] * self.centre[0]
        named["B"] = named["B"] + named["beta"] * self.centre[1]
        return {name: np.exp(x) if name in ("E", "A", "B", "C", "C'") else x for name, x in named.items()}

    def _interval(self, value: float, draws: Array) -> Interval:
        return interval(value, draws, self.counts["cells"], len(self.theta) + 1, log=True)


def best_share(laws: Sequence[tuple[MixtureFit, float]], n: float, d: float) -> Interval:
    """The share at which the weighted sum of several losses is lowest, such as a domain's and a general
    one.

    ``laws``: each with its weight; all are laws of the same share. It is sought within the shares that all
    of them were fitted to. Raises SearchError for a target that is not above 0.
    """
    check_target(n=n, d=d)
    low = max(law.shares[0] for law, _ in laws)
    high = min(law.shares[1] for law, _ in laws)
    grid = np.linspace(low, high, _GRID)
    value = sum(weight * law.losses(n, d, grid) for law, weight in laws)
    count = min(len(law.draws) for law, _ in laws)
    drawn = sum(weight * law.drawn_losses(n, d, grid)[:count] for law, weight in laws)
    best = float(_lowest(grid, np.asarray(value))[0])
    first = laws[0][0]
    found = interval(
        best, _lowest(grid, np.asarray(drawn)), first.counts["cells"], len(first.theta) + 1, log=False
    )
    return Interval(max(found.low, low), best, min(found.high, high))


def _lowest(grid: Array, losses: Array) -> Array:
    """Where rows of ``losses`` (k, g) on an even ``grid`` (g,) are lowest, (k,): between its steps by the
    parabola through the lowest and its neighbours."""
    at = np.argmin(losses, axis=1)
    inner = np.clip(at, 1, len(grid) - 2)
    rows = np.arange(len(losses))
    left, middle, right = (losses[rows, inner + step] for step in (-1, 0, 1))
    curvature = np.maximum(left - 2 * middle + right, 1e-300)
    moved = np.clip((left - right) / (2 * curvature), -0.5, 0.5) * (grid[1] - grid[0])
    return np.asarray(np.where(at == inner, grid[inner] + moved, grid[at]))


def fit_mixture(runs: Runs, options: Mapping[str, Any], seed: int, progress: Progress) -> MixtureFit:
    """Fit the law. Options: ``form`` (``domain`` or ``whole``), ``draws`` of the bootstrap (200).

    The bootstrap is over the cells (N, D, share). Raises SearchError for options it does not know, runs
    without shares, a single N or D, fewer than three shares, or fewer cells than parameters and one.
    """
    form, draws = checked(options)
    best = _checked_runs(runs, form)
    assert best.share is not None
    cells, groups = np.unique(np.column_stack([best.n, best.d, best.share]), axis=0, return_inverse=True)
    u, v = np.log(best.n), np.log(best.d)
    centre = (float(u.mean()), float(v.mean()))
    u, v = u - centre[0], v - centre[1]
    problems = [_problem(form, u, v, best.share, epsilon, np.log(best.loss)) for epsilon in EPSILONS]
    thetas = [problem.fit(_starts(problem, best.loss), polished=4) for problem in problems]
    hubers = [problem.huber(theta) for problem, theta in zip(problems, thetas, strict=True)]
    chosen = int(np.argmin(hubers))
    around = [index for index in (chosen - 1, chosen, chosen + 1) if 0 <= index < len(EPSILONS)]
    fits = [(problems[index], thetas[index]) for index in around]
    which, drawn = bootstrap(fits, groups, draws, seed, progress)
    residuals = problems[chosen].log_y - problems[chosen].log_values(thetas[chosen])[0]
    fitted = MixtureFit(
        form=form,
        theta=thetas[chosen],
        epsilon=EPSILONS[chosen],
        draws=drawn,
        draws_epsilon=np.array([EPSILONS[around[index]] for index in which]),
        centre=centre,
        cells=cells,
        huber=hubers[chosen],
        spread=robust_deviation(residuals),
        counts={
            "runs": len(best),
            "cells": len(cells),
            "not_best": len(runs) - len(best),
            "diverged": len(runs.diverged.get("n", ())),
        },
        cautions=shared.of_runs(runs),
    )
    return _with_cautions(fitted)


def checked(options: Mapping[str, Any]) -> tuple[str, int]:
    """The form and the number of draws. Raises SearchError for them, and for any other option."""
    form = options.get("form", "domain")
    if form not in FORMS:
        hint = did_you_mean(str(form), FORMS)
        raise SearchError([Mistake("/options/form", f"there is no form {form!r}", hint)])
    return form, checked_draws({name: value for name, value in options.items() if name != "form"})


def _checked_runs(runs: Runs, form: str) -> Runs:
    if runs.share is None:
        raise SearchError(
            [Mistake("/columns/share", "a mixture law needs the share of the domain", "name its column")]
        )
    best = lowest_of_cells(runs)
    assert best.share is not None
    fewest = len(_names(form)) + 2
    wrong = [
        Mistake("/runs", f"all runs have one {name}", "the law takes at least two, better three or more")
        for name, values in (("N", best.n), ("D", best.d))
        if len(np.unique(values)) < 2
    ]
    if len(np.unique(best.share)) < FEWEST_SHARES:
        count = len(np.unique(best.share))
        wrong.append(
            Mistake("/runs", f"there are {count} shares", f"the law takes at least {FEWEST_SHARES}")
        )
    cells = len(np.unique(np.column_stack([best.n, best.d, best.share]), axis=0))
    if cells < fewest:
        told = f"there are {cells} cells (N, D, share); the law has {fewest - 1} parameters"
        wrong.append(Mistake("/runs", told, f"it takes at least {fewest}"))
    if wrong:
        raise SearchError(wrong)
    return best


def _names(form: str) -> tuple[str, ...]:
    return (*_NAMES, *_WHOLE) if form == "whole" else _NAMES


def _terms(form: str, u: Array, v: Array, share: Array, epsilon: float) -> Array:
    """Shape (terms, m, p)."""
    one, names = np.ones_like(u), _names(form)
    rows: list[dict[str, Array]] = [
        {"E": one},
        {"A": one, "alpha": -u},
        {"B": one, "eta": np.log(np.maximum(share, _LEAST_SHARE)), "beta": -v},
        {"C": one, "gamma": -np.log(share + epsilon)},
    ]
    if form == "whole":
        rows.append({"C'": one, "gamma'": -np.log(1 - share + epsilon)})
    return np.stack([np.column_stack([row.get(name, 0 * one) for name in names]) for row in rows])


def _problem(form: str, u: Array, v: Array, share: Array, epsilon: float, log_loss: Array) -> Problem:
    low, high = float(log_loss.min()), float(log_loss.max())
    coefficient, exponent = (low - 7.0, high + 3.0), (0.0, HIGHEST_EXPONENT)
    bounds = dict.fromkeys(("A", "B", "C", "C'"), coefficient) | {"E": (low - 7.0, low)}
    return Problem(
        terms=_terms(form, u, v, share, epsilon),
        log_y=log_loss,
        bounds=[bounds.get(name, exponent) for name in _names(form)],
    )


def _starts(problem: Problem, loss: Array) -> list[Array]:
    """Exponents of a coarse grid; the coefficients that go with them are in least squares."""
    found = []
    whole = problem.terms.shape[2] > len(_NAMES)
    for alpha in (0.2, 0.5):
        for beta in (0.2, 0.5):
            for eta in (0.1, 1.0):
                for gamma in (0.2, 0.8):
                    theta = np.array(
                        [0, 0, alpha, 0, eta, beta, 0, gamma] + ([0, gamma] if whole else []), float
                    )
                    relative = np.exp(problem.terms @ theta) / loss
                    coefficients = np.log(start_from(relative))
                    theta[[0, 1, 3, 6] + ([8] if whole else [])] = coefficients
                    found.append(theta)
    return found


def _with_cautions(fitted: MixtureFit) -> MixtureFit:
    if fitted.form != "domain":
        return fitted
    low, high = fitted.shares
    grid = np.linspace(low, high, _GRID)
    worst, where = 0.0, 0.0
    for n, d in np.unique(fitted.cells[:, :2], axis=0):
        losses = fitted.losses(n, d, grid)[0]
        rise = float((losses - np.minimum.accumulate(losses)).max() / losses.min())
        if rise > worst:
            worst, where = rise, float(grid[int(np.argmin(losses))])
    if worst <= RISE:
        return fitted
    caution = Caution(
        "not-monotone",
        f"the loss rises by {worst:.2%} beyond a share of {where:.2f}, which a domain's own loss does not; "
        "if it is the loss of more than one domain, fit the form whole",
    )
    return replace(fitted, cautions=(*fitted.cautions, caution))


FAMILY = Family(
    summary="The loss of a model by the share of a domain in its data, and the best share.",
    kind="loss",
    fit=fit_mixture,
    check=checked,
    load=MixtureFit.from_json,
)
