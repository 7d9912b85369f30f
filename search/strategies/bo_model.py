"""What ``bo`` asks its models: from a study to configurations with reasons, and how well the models fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import BotorchError, ModelFittingError
from linear_operator.utils.errors import NanError, NotPSDError
from torch.linalg import LinAlgError  # type: ignore[attr-defined] # torch does not list it

from search.features import Features
from search.space import Key, ParamValue
from search.strategies.common import percent
from search.strategies.improvement import Chooser, Pick
from search.strategies.knowledge import BLAMED
from search.strategies.modelled import Suggestion
from search.surrogates.history import Array
from search.surrogates.outcomes import FAILURE, Models, Outcome, fit, outcomes_of
from search.threads import one_thread
from search.view import StudyView, TrialView

Params = Mapping[str, ParamValue]


def suggest(
    view: StudyView,
    pending: Sequence[Params],
    seen: set[Key],
    count: int,
    noise_sd: float | None,
    rng: np.random.Generator,
) -> tuple[list[Suggestion], dict[str, Any]]:
    """At most ``count`` configurations not in ``seen``, with reasons, and diagnostics of the fit.

    ``noise_sd`` is that of the study's metric, None to infer it. Where no model can be fitted, there are no
    suggestions, and ``model_failed`` among the diagnostics says why. Global random states are left as they
    were.
    """
    trials, outcomes, columns = _results(view)
    for outcome, column in zip(outcomes, columns, strict=True):
        if not np.isfinite(column).any():
            return [], {"model_failed": f"no result has a value of {outcome.metric or 'the metric'}"}
    if not np.isfinite(columns).all(axis=0).any():
        return [], {"model_failed": "no result has values of all metrics"}

    configurations = [trial.params for trial in trials]
    picks: list[Pick] = []
    taken = set(seen)
    # BoTorch insists on warnings of optimizers that ended early; recorded, they are not printed.
    with one_thread(), warnings.catch_warnings(record=True), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        try:
            models = fit(outcomes, Features.of(view.space).encode(configurations), columns, noise_sd)
            chooser = Chooser(view.space, models, configurations, pending, len(view.trials), rng)
            while len(picks) < count and (pick := chooser.choose(taken)) is not None:
                picks.append(pick)
            diagnostics = _diagnostics(models, trials, chooser.measured, noise_sd)
        except (BotorchError, ModelFittingError, NanError, NotPSDError, LinAlgError) as error:
            return [], {"model_failed": f"the fit failed ({type(error).__name__}: {error})"}
    said = _Words(models, columns)
    return [(pick.params, said.of(pick)) for pick in picks], diagnostics


def _results(view: StudyView) -> tuple[list[TrialView], list[Outcome], list[Array]]:
    """The trials that say anything, what is modelled, and of each outcome their values, NaN where unknown.

    A trial whose training its configuration made fail, or that came to a value that is not finite, tells of
    failure only. Of what failed otherwise, or was stopped before its first measurement, nothing is known.
    Where nothing failed, failure is not modelled.
    """
    trials, outcomes = [], list(outcomes_of(view))
    rows: list[list[float]] = []
    for trial in view.trials:
        blamed = trial.status == "failed" and trial.failure in BLAMED
        if trial.active or not (blamed or (trial.values and trial.status != "failed")):
            continue
        values = [outcome.of(view, trial) for outcome in outcomes]
        failed = blamed or any(value is not None and not math.isfinite(value) for value in values)
        known = [math.nan if value is None or failed else value for value in values]
        trials.append(trial)
        rows.append([*known, float(failed)])
    *columns, failures = np.array(rows, dtype=np.float64).reshape(-1, len(outcomes) + 1).T
    return (
        (trials, [*outcomes, FAILURE], [*columns, failures])
        if failures.any()
        else (trials, outcomes, columns)
    )


def _diagnostics(
    models: Models, trials: Sequence[TrialView], features: Array, noise_sd: float | None
) -> dict[str, Any]:
    """JSON: how well the models fit; with one objective also the trial that is best by them.

    ``features`` are those of the trials that are known in all outcomes.
    """
    fitted: dict[str, Any] = {
        "fit_seconds": round(models.seconds, 3),
        "noise": "inferred" if noise_sd is None else noise_sd,
        "leave_one_out": models.leave_one_out(),
    }
    known, kept = np.flatnonzero(models.known()), np.flatnonzero(models.kept())
    if any(outcome.limit is not None for outcome in models.outcomes if outcome is not FAILURE):
        fitted["keep_limits"] = len(kept)
    if models.objectives == 1 and len(kept):
        mean, _ = models.predict(features[np.isin(known, kept)])
        best = int(np.argmax(mean[:, 0]))
        fitted["best_predicted"] = {
            "trial": trials[kept[best]].number,
            "value": models.scales[0].value(float(mean[best, 0])),
        }
    return fitted


class _Words:
    """Reasons for configurations, in the metrics' own units."""

    def __init__(self, models: Models, columns: Sequence[Array]) -> None:
        """``columns`` are the values that the models were told."""
        self.models = models
        self.risky = models.outcomes[-1] is FAILURE
        self.limited = len(models.outcomes) > models.objectives + self.risky
        self.results = int(np.isfinite(columns[0]).sum())
        kept = columns[0][models.kept()]
        self.best: float | None = None
        if len(kept):
            self.best = float(kept.max() if models.outcomes[0].maximize else kept.min())

    def of(self, pick: Pick) -> str:
        count = len(self.models.outcomes) - self.risky
        predicted = [self._interval(place, pick) for place in range(count)]
        parts = [f"model of {self.results} results predicts {', '.join(predicted)}"]
        if self.models.objectives > 1:
            parts.append(
                f"expected to enlarge the hypervolume of the front by {pick.improves:.2%}"
                if math.isfinite(pick.improves)
                else "no trial is on the front yet"
            )
        elif self.best is not None:
            parts.append(f"{percent(pick.improves)} chance to beat the best so far, {self.best:.4g}")
        if self.limited:
            parts.append(f"{percent(pick.keeps)} chance to keep the limits")
        if self.risky:
            parts.append(f"{percent(1 - pick.trains)} risk to fail")
        return "; ".join(parts)

    def _interval(self, place: int, pick: Pick) -> str:
        scale, metric = self.models.scales[place], self.models.outcomes[place].metric
        low, mid, high = (
            scale.value(float(pick.mean[place] + k * pick.sd[place])) for k in (-1.96, 0.0, 1.96)
        )
        low, high = sorted((low, high))
        name = f"{metric} " if metric is not None else ""
        return f"{name}{mid:.4g} (95 %: {low:.4g} to {high:.4g})"
