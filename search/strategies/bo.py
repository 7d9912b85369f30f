"""``bo``: Bayesian optimisation of fully trained trials, on Ax's client and generation strategy.

A Sobol design comes first; then a Gaussian process is fitted to the best value of each trial, and log
noisy expected improvement picks what to train next, with the trials still in training taken into account
(Balandat et al., "BoTorch", 2020; Ament et al., "Unexpected Improvements to Expected Improvement", 2023).

What the model is told: a trial that has ended counts with the best value of its curve, one that was
stopped early too (which is no better than what it would have come to). A trial that diverged or ran out
of memory counts as the worst value seen, since its configuration is to blame; after another failure
nothing is known, and the trial is marked failed.

Linear inequalities and simplexes are handed to Ax; what it cannot hold is refused when the study is
submitted. Beliefs move points of the design, not the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from search.beliefs import leaning
from search.decision import Answer, Launch
from search.errors import Mistake, SearchError
from search.sampling import fresh, sobol_points, tried, uniform_points
from search.space import Choice, ParamValue, Real, SearchSpace, Whole, pointer
from search.strategies.common import launches_left, wait_or_finish
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView, TrialView

_BLAMED = frozenset({"diverged", "out_of_memory"})
"""Failures for which the configuration is to blame."""


@dataclass(frozen=True, slots=True)
class BayesianOptimisation:
    """See the module."""

    initial_trials: int
    """Size of the Sobol design; configurations that are enqueued or imported count."""
    noise_sd: float | None = None
    """Standard deviation of the metric's noise; None: it is inferred."""

    name: ClassVar[str] = "bo"
    lookahead: ClassVar[bool] = False
    known_options: ClassVar[tuple[Option, ...]] = (
        Option("initial_trials", whole=True, at_least=2),
        Option("noise_sd", at_least=0),
    )
    conditional: ClassVar[bool] = False

    @classmethod
    def create(
        cls, options: Mapping[str, ParamValue], space: SearchSpace, fidelity: Fidelity
    ) -> BayesianOptimisation:
        mistakes = beyond_ax(space)
        given: dict[str, float] = {}
        try:
            given = read_options(cls.name, options, cls.known_options)
        except SearchError as error:
            mistakes.extend(error.mistakes)
        if mistakes:
            raise SearchError(mistakes)
        default = min(20, max(5, 2 * len(space.dimensions)))
        return cls(int(given.get("initial_trials", default)), given.get("noise_sd"))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        target = view.fidelity.max
        left = launches_left(view, target, view.budget.fidelity)
        wanted = slots if left is None else min(slots, left)
        known = Knowledge.of(view)
        seen = tried(view)
        launches: list[Launch] = []
        exhausted = view.space.cardinality is not None and len(seen) >= view.space.cardinality

        designed = len(known.losses) + len(known.pending)
        place = sum(trial.origin == "strategy" for trial in view.trials)
        sequence = sobol_points(len(view.space.dimensions), place, view.seed)
        points = leaning(view.space, sequence, place)
        while len(launches) < wanted and not exhausted:
            if designed < self.initial_trials:
                reason = f"Sobol design, {designed + 1} of {self.initial_trials}"
            elif len(known.losses) < 2:
                reason = f"Sobol design goes on: {len(known.losses)} finite results are too few for a model"
            else:
                break
            params = fresh(view.space, seen, points, rng)
            exhausted = params is None
            if params is not None:
                launches.append(Launch(params, target, reason))
                designed += 1

        diagnostics = known.diagnostics()
        missing = wanted - len(launches)
        if missing > 0 and not exhausted:
            modelled, fit = self._from_model(view, known, launches, missing, rng)
            diagnostics |= fit
            at_random = uniform_points(len(view.space.dimensions), rng)
            for choice, reason in modelled:
                # Rounding to grids may have left what a constraint allows.
                if view.space.key(choice) not in seen and not view.space.check(choice):
                    seen.add(view.space.key(choice))
                    launches.append(Launch(choice, target, reason))
            # Ax may give fewer than asked for, or what is tried: the other slots are not left idle.
            while len(launches) < wanted and not exhausted:
                params = fresh(view.space, seen, at_random, rng)
                exhausted = params is None
                if params is not None:
                    launches.append(
                        Launch(params, target, "the model has nothing untried to offer: drawn at random")
                    )
        if launches or (left != 0 and not exhausted):
            return Answer(tuple(launches), diagnostics)
        return wait_or_finish(view, target, exhausted)

    def _from_model(
        self,
        view: StudyView,
        known: Knowledge,
        launches: Sequence[Launch],
        count: int,
        rng: np.random.Generator,
    ) -> tuple[list[tuple[Mapping[str, ParamValue], str]], dict[str, Any]]:
        """``count`` configurations of the model's choice with their reasons, and the fit's diagnostics."""
        from search.strategies.ax_model import suggest  # importing Ax takes seconds

        centre, scale, scaled = standardised(known.losses)
        suggestions, fit = suggest(
            view.space,
            list(zip((t.params for t in known.observed), scaled, strict=True)),
            [*(t.params for t in known.pending), *(launch.params for launch in launches)],
            [t.params for t in known.failed],
            count,
            None if self.noise_sd is None else self.noise_sd / scale,
            int(rng.integers(2**31)),
        )
        sign = -1.0 if view.maximize else 1.0
        picked = []
        for s in suggestions:
            low, high = sorted(sign * (centre + scale * (s.mean + k * s.sd)) for k in (-1.96, 1.96))
            words = (
                f"model of {len(known.observed)} results predicts {sign * (centre + scale * s.mean):.4g} "
                f"(95 %: {low:.4g} to {high:.4g})"
                if s.by_model
                else "Ax found only points already tried and gave a Sobol point instead"
            )
            picked.append((s.params, words))
        best = int(np.argmin(fit.predicted_means))
        return picked, {
            "fit_seconds": fit.fit_seconds,
            "generate_seconds": fit.generate_seconds,
            "model": fit.model,
            "noise": "inferred" if self.noise_sd is None else self.noise_sd,
            "best_predicted": {
                "trial": known.observed[best].number,
                "value": sign * (centre + scale * fit.predicted_means[best]),
            },
        }


def beyond_ax(space: SearchSpace) -> list[Mistake]:
    """What a space says that Ax cannot hold: conditions, some constraints, forbidden combinations."""
    mistakes: list[Mistake] = []
    if space.conditional:
        names = ", ".join(p.name for p in space.parameters if p.when)
        mistakes.append(
            Mistake(
                "/strategy/name",
                f"bo cannot model conditional parameters ({names})",
                "use asha, hyperband, random or sobol, or drop the conditions",
            )
        )
    for at, constraint in enumerate(space.constraints):
        place = pointer("constraints", at)
        if constraint.relation == "==":
            mistakes.append(
                Mistake(place, "bo cannot hold an equality", "search one parameter less, or say <= and >=")
            )
        uneven = [
            name
            for name in constraint.names
            if isinstance(domain := space.by_name[name].domain, Choice)
            or (isinstance(domain, Real | Whole) and domain.log)
        ]
        if uneven and constraint.relation != "==":
            mistakes.append(
                Mistake(
                    place,
                    f"bo cannot hold a constraint on a log scale or a list of values ({', '.join(uneven)})",
                    "use asha, hyperband, random or sobol, or make the parameter linear",
                )
            )
    mistakes.extend(
        Mistake(
            pointer("forbid", at),
            "bo cannot leave out combinations of values",
            "use asha, hyperband, random or sobol",
        )
        for at in range(len(space.forbidden))
    )
    return mistakes


@dataclass(frozen=True, slots=True)
class Knowledge:
    """A study as the model is told it."""

    observed: tuple[TrialView, ...]
    losses: tuple[float, ...]
    """Of ``observed``; finite."""
    pending: tuple[TrialView, ...]
    failed: tuple[TrialView, ...]
    blamed: int
    """How many of ``observed`` failed and count as the worst."""

    @classmethod
    def of(cls, view: StudyView) -> Knowledge:
        groups: dict[Literal["seen", "blamed", "pending", "failed"], list[TrialView]]
        groups = {"seen": [], "blamed": [], "pending": [], "failed": []}
        losses: list[float] = []
        for trial in view.trials:
            best = min((view.loss(value) for value in trial.values), default=math.inf)
            if trial.active:
                groups["pending"].append(trial)
            elif trial.status != "failed" and math.isfinite(best):
                groups["seen"].append(trial)
                losses.append(best)
            elif trial.status != "failed" or trial.failure in _BLAMED:
                groups["blamed"].append(trial)
            else:
                groups["failed"].append(trial)
        # With nothing to compare with, there is no worst value to give.
        blamed = groups["blamed"] if losses else []
        failed = groups["failed"] if losses else [*groups["failed"], *groups["blamed"]]
        return cls(
            (*groups["seen"], *blamed),
            (*losses, *([max(losses)] * len(blamed) if losses else [])),
            tuple(groups["pending"]),
            tuple(failed),
            len(blamed),
        )

    def diagnostics(self) -> dict[str, Any]:
        return {
            "observations": len(self.observed),
            "counted_as_worst": self.blamed,
            "pending": len(self.pending),
            "failed": len(self.failed),
        }


def standardised(losses: Sequence[float]) -> tuple[float, float, list[float]]:
    """Centre, scale and the losses on that scale, far outliers on the bad side drawn in.

    The scale is the distance from the best loss to the median. A loss ten times as far above the median
    says no more than that it is bad, and would leave the model blind to differences among the good ones.
    """
    values = np.clip(np.asarray(losses, dtype=np.float64), -1e300, 1e300)
    centre = float(np.median(values))
    scale = centre - float(values.min()) or float(values.max() - values.min()) or 1.0
    drawn_in = np.minimum(values, centre + 10 * scale)
    return centre, scale, [float(v) for v in (drawn_in - centre) / scale]
