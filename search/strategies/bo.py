"""``bo``: Bayesian optimisation of fully trained trials, on Ax's client and generation strategy.

A Sobol design comes first; then a Gaussian process is fitted to the best value of each trial, and log
noisy expected improvement picks what to train next, with the trials still in training taken into account
(Balandat et al., "BoTorch", 2020; Ament et al., "Unexpected Improvements to Expected Improvement", 2023).

Linear inequalities and simplexes are handed to Ax; what it cannot hold is refused when the study is
submitted. Beliefs move points of the design, not the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from search.decision import Answer, Launch
from search.errors import Mistake, SearchError
from search.space import Choice, Key, ParamValue, Real, SearchSpace, Whole, pointer
from search.strategies import modelled
from search.strategies.knowledge import Knowledge
from search.strategies.modelled import Suggestion, default_design
from search.strategies.options import Option, read_options
from search.view import Fidelity, StudyView


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
    categorical: ClassVar[bool] = True
    outcomes: ClassVar[bool] = True

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
        design = int(given.get("initial_trials", default_design(len(space.dimensions))))
        return cls(design, given.get("noise_sd"))

    def first_target(self, fidelity: Fidelity) -> int:
        return fidelity.max

    def decide(self, view: StudyView, slots: int, rng: np.random.Generator) -> Answer:
        def model(
            known: Knowledge, launches: Sequence[Launch], seen: set[Key], count: int
        ) -> tuple[list[Suggestion], dict[str, Any]]:
            return self._from_model(view, known, launches, count, rng)

        return modelled.decide(view, slots, rng, self.initial_trials, model)

    def _from_model(
        self,
        view: StudyView,
        known: Knowledge,
        launches: Sequence[Launch],
        count: int,
        rng: np.random.Generator,
    ) -> tuple[list[Suggestion], dict[str, Any]]:
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


def beyond_ax(space: SearchSpace) -> list[Mistake]:
    """What a space says that Ax cannot hold: some constraints, forbidden combinations."""
    mistakes: list[Mistake] = []
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
                    "use another strategy, or make the parameter linear",
                )
            )
    mistakes.extend(
        Mistake(
            pointer("forbid", at),
            "bo cannot leave out combinations of values",
            "use another strategy",
        )
        for at in range(len(space.forbidden))
    )
    return mistakes
