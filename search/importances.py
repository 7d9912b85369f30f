"""How much each parameter of a study matters, by three methods that see different things.

``ped-anova``
    How far the best tenth of the trials differs from all of them in a parameter: what mattered for *getting
    good*. Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", 2023; Optuna's evaluator. Only the order of the losses counts. The cheapest.
``fanova``
    The share of the variance of the loss over the *whole space* that a random forest gives to a parameter
    alone. Hutter, Hoos, Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance",
    2014; Optuna's evaluator.
``sobol``
    The same share by the Gaussian process of ``curve-bo``, first-order (the parameter alone) and total
    (with all its interactions). Saltelli et al., "Variance based sensitivity analysis of model output",
    2010.

The losses are those of :mod:`search.ends`. The first two are normalised to the sum 1; first-order Sobol
indices sum to 1 at most, total ones to 1 at least.

- Parameters that are active under a condition: ``ped-anova`` weighs them by how often they are active
  ("Conditional PED-ANOVA", 2026); ``fanova`` takes the middle of their range where they are not (Hutter
  et al. take the default); ``sobol`` draws all, and those that are inactive change nothing.
- The shares of a simplex count one by one: how much of one there is before all are brought to the sum 1.
- Constraints and forbidden combinations: ``sobol`` asks the model about illegal configurations, too, since
  its indices are defined for independent parameters only.
- Parameters with one value have no importance and are not named.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from search.ends import Basis, EndModel, Ends
from search.space import SearchSpace
from search.surrogates.history import Array
from search.view import StudyView

if TYPE_CHECKING:
    from optuna.importance import BaseImportanceEvaluator

Method = Literal["ped-anova", "fanova", "sobol"]
METHODS: tuple[Method, ...] = get_args(Method)

LEAST_TRIALS = 10
"""Trials that count, without which every ranking would be chance."""
_BEST_SHARE = 0.1
_LEAST_BEST = 5
"""PED-ANOVA compares the best tenth with all, but no fewer than five."""
_FOREST_TRIALS = 400
"""The forest is grown on so many trials at most, drawn at random: its analysis takes a square of them."""
_FEW_PER_PARAMETER = 5
"""With fewer trials per parameter than this, a note says so."""
_EVALUATIONS = 2**15
"""Predictions for the Sobol indices, about."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Of one parameter."""

    parameter: str
    importance: float
    """In [0, 1]."""
    total: float | None = None
    """Only of ``sobol``: with its interactions; at least ``importance``."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What one method says."""

    method: Method
    importances: tuple[Importance, ...]
    """The most important first; of ``sobol`` by ``total``."""
    explained: float | None = None
    """Only of ``sobol``: how much of the differences between trials the model predicts, in [0, 1]."""
    notes: tuple[str, ...] = ()
    """What to know before believing it."""


@dataclass(frozen=True, slots=True)
class Importances:
    """The rankings that were asked for, and what they are based on."""

    basis: Basis
    rankings: tuple[Ranking, ...]


class TooFewTrialsError(ValueError):
    """There is nothing to rank parameters by yet; the message says what is missing."""


def importances(view: StudyView, methods: Sequence[Method], rng: np.random.Generator) -> Importances:
    """How much each parameter of the study matters, by each of ``methods``.

    The same view and generator give the same answer. Raises :class:`TooFewTrialsError` if fewer than
    ``LEAST_TRIALS`` trials count.
    """
    space = view.space
    names = [name for name in space.dimensions if space.by_name[name].domain.size != 1]
    ends = Ends.of(view, rng, modelled="sobol" in methods)
    if not names:
        note = "every parameter has one value only: there is nothing to rank"
        return Importances(ends.basis, tuple(Ranking(method, (), notes=(note,)) for method in methods))
    if ends.basis.used < LEAST_TRIALS:
        raise TooFewTrialsError(_what_is_missing(view, ends.basis))
    return Importances(ends.basis, tuple(_ranking(view, ends, method, names, rng) for method in methods))


def _what_is_missing(view: StudyView, basis: Basis) -> str:
    active = sum(trial.active for trial in view.trials)
    failures = sum(trial.status == "failed" for trial in view.trials)
    has = "no trial has" if basis.used == 0 else f"{basis.used} ha{'s' if basis.used == 1 else 've'}"
    others = [f"{active} queued or training"] if active else []
    others += [f"{failures} failed"] if failures else []
    over = sum(
        trial.status in ("completed", "stopped") and not any(map(math.isfinite, trial.values))
        for trial in view.counted().trials
    )
    others += [f"{over} ended over a limit"] if over and view.limits else []
    of = f" ({', '.join(others)} of {len(view.trials)})" if others else ""
    return f"importances need {LEAST_TRIALS} trials with a result, so far {has} one{of}"


def _ranking(
    view: StudyView, ends: Ends, method: Method, names: Sequence[str], rng: np.random.Generator
) -> Ranking:
    notes = []
    if ends.basis.used < _FEW_PER_PARAMETER * len(names):
        notes.append(
            f"{ends.basis.used} trials are few for {len(names)} parameters: small differences are chance"
        )
    if float(np.ptp(ends.losses)) == 0.0:
        notes.append("all trials came to the same: no parameter can be told to matter")
        nothing = dict.fromkeys(names, 0.0)
        return _ranked(method, nothing, nothing if method == "sobol" else None, notes)
    if method == "ped-anova" and view.pruning is not None and view.pruning.frozen:
        frozen = ", ".join(view.pruning.frozen)
        notes.append(
            f"search froze {frozen}: the best trials share these values, which only seem to matter"
        )
    if method == "sobol":
        assert ends.model is not None, "asked for, and there are results"
        return _sobol(view.space, ends.model, names, rng, notes)
    seed = int(rng.integers(2**31))
    found = (
        _ped_anova(view.space, ends)
        if method == "ped-anova"
        else _fanova(view.space, ends, names, seed, notes)
    )
    total = sum(found.values())
    if total <= 0:
        notes.append("the trials give no sign that any parameter matters")
    return _ranked(
        method, {name: found.get(name, 0.0) / total if total > 0 else 0.0 for name in names}, None, notes
    )


def _ranked(
    method: Method,
    importance: Mapping[str, float],
    total: Mapping[str, float] | None,
    notes: Sequence[str],
) -> Ranking:
    """The most important first, ties in the order of the space."""
    rows = [
        Importance(name, value, None if total is None else total[name])
        for name, value in importance.items()
    ]
    rows.sort(key=lambda row: -(row.importance if row.total is None else row.total))
    return Ranking(method, tuple(rows), notes=tuple(notes))


def _ped_anova(space: SearchSpace, ends: Ends) -> dict[str, float]:
    """Pearson divergences of the parameters that were ever active."""
    from optuna.importance import PedAnovaImportanceEvaluator

    points = [space.encode(trial.params) for trial in ends.trials]
    active = [set(trial.params) for trial in ends.trials]
    share = min(0.5, max(_BEST_SHARE, _LEAST_BEST / len(points)))
    return _evaluated(
        space, points, active, ends.losses, PedAnovaImportanceEvaluator(target_quantile=share)
    )


def _fanova(
    space: SearchSpace, ends: Ends, names: Sequence[str], seed: int, notes: list[str]
) -> dict[str, float]:
    """Shares of the forest's variance; every parameter counts as active (the middle where it is not)."""
    from optuna.importance import FanovaImportanceEvaluator

    places = np.arange(len(ends.trials))
    if len(places) > _FOREST_TRIALS:
        places = np.sort(np.random.default_rng(seed).choice(places, _FOREST_TRIALS, replace=False))
        notes.append(f"the forest saw {_FOREST_TRIALS} of {len(ends.trials)} trials, drawn at random")
    points = [space.encode(ends.trials[place].params) for place in places.tolist()]
    everything = [set(names)] * len(points)
    try:
        return _evaluated(
            space, points, everything, ends.losses[places], FanovaImportanceEvaluator(seed=seed)
        )
    except RuntimeError:
        # Optuna's answer where no tree finds a split: the same configuration again and again.
        return {}


def _evaluated(
    space: SearchSpace,
    points: Sequence[Array],
    active: Sequence[set[str]],
    losses: Array,
    evaluator: BaseImportanceEvaluator,
) -> dict[str, float]:
    """What an evaluator of Optuna's says of a study that is made for it in memory.

    ``points`` are coordinates of the cube; of each trial the parameters in ``active`` are told.
    """
    import optuna
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState, create_trial

    from search.strategies.parzen import coded, distribution_of, quiet

    distributions = {
        name: distribution_of(space.by_name[name].domain)
        for name in space.dimensions
        if space.by_name[name].domain.size != 1
    }
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on few trials and on arguments that are experimental
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for point, own, loss in zip(points, active, losses.tolist(), strict=True):
            at = dict(zip(space.dimensions, point.tolist(), strict=True))
            told = {name: d for name, d in distributions.items() if name in own}
            params = {name: coded(at[name], d) for name, d in told.items()}
            study.add_trial(
                create_trial(state=TrialState.COMPLETE, value=loss, params=params, distributions=told)
            )
        found = get_param_importances(study, evaluator=evaluator, normalize=False)
    return {name: max(0.0, float(value)) for name, value in found.items()}


def _sobol(
    space: SearchSpace,
    model: EndModel,
    names: Sequence[str],
    rng: np.random.Generator,
    notes: list[str],
) -> Ranking:
    """Indices of the model's mean, over the cube.

    From two independent sets of points and, for each parameter, the first set with that parameter's
    coordinates from the second; the estimators that Saltelli et al. recommend (their table 2, b and f).
    """
    from scipy.stats import qmc  # heavy: only when a sequence is drawn

    d = len(space.dimensions)
    n = 2 ** int(np.clip(np.log2(_EVALUATIONS / (len(names) + 2)), 6, 11))
    both = qmc.Sobol(2 * d, scramble=True, rng=rng).random(n)
    one, other = both[:, :d], both[:, d:]
    ends, others = (model.of(space.layout.decode(points)) for points in (one, other))
    centre = float(np.concatenate([ends, others]).mean())
    ends, others = ends - centre, others - centre
    variance = max(float(np.concatenate([ends, others]).var()), 1e-12)
    first, total = {}, {}
    for name in names:
        mixed = one.copy()
        place = space.dimensions.index(name)
        mixed[:, place] = other[:, place]
        changed = model.of(space.layout.decode(mixed)) - centre
        first[name] = float(np.clip(np.mean(others * (changed - ends)) / variance, 0, 1))
        total[name] = float(np.clip(np.mean((ends - changed) ** 2) / (2 * variance), first[name], 1))
    if space.constrained:
        notes.append("constraints are not regarded: the model was asked about illegal configurations, too")
    explained = model.explained
    if explained < 0.3:
        notes.append(
            "the model hardly predicts trials that it was not told of: take its indices for a guess"
        )
    return replace(_ranked("sobol", first, total, notes), explained=explained)
