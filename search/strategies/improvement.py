"""Where one more trial is expected to improve most, by the models of :mod:`search.surrogates.outcomes`.

One objective: log noisy expected improvement; several: log noisy expected hypervolume improvement, both
weighed by the chance to keep the limits and to train at all (Ament et al., "Unexpected Improvements to
Expected Improvement", 2023; Daulton et al., "Parallel Bayesian Optimization of Multiple Noisy Objectives",
2021). The user's beliefs count as a factor, less with every trial (piBO, Hvarfner et al., 2022).

The improvement is over what was measured and what is still pending, so a batch is chosen one by one from
one fit. Candidates are legal configurations over the space and near the best; the best of them are moved
along the gradient, made legal again, and judged with the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
from botorch.acquisition.objective import LinearMCObjective
from botorch.generation.gen import gen_candidates_scipy
from botorch.sampling.normal import SobolQMCNormalSampler
from botorch.utils.multi_objective.hypervolume import Hypervolume, infer_reference_point
from botorch.utils.multi_objective.pareto import is_non_dominated
from scipy.special import ndtr

from search.beliefs import log_prior_of, weight
from search.features import Features
from search.legal import legalised
from search.space import Key, ParamValue, SearchSpace
from search.strategies.moves import near, spread
from search.surrogates.history import Array
from search.surrogates.outcomes import Models
from search.table import Mask, Table

# BoTorch would compile a kernel when it is first used, behind a lock on disk: a process that is killed
# meanwhile leaves the lock, and every later one waits for ever. This is its own mark of "do not try".
logei._load_attempted = True

_SPREAD, _NEAR, _REFINED = 600, 300, 300
"""Candidates: over the space, near the best trials, near the best of those in each round."""
_ELITE = 8
_POLISHED = 6
"""Candidates that are moved along the gradient."""
_SAMPLES, _FRONT_SAMPLES = 128, 64
"""Of the posterior, for one objective and for several."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A configuration, and what the models say of it."""

    params: Mapping[str, ParamValue]
    mean: Array
    """Of each outcome, scaled, shape (outcomes,), as ``sd``; noise is left out."""
    sd: Array
    improves: float
    """One objective: the chance that it is better than the best so far. Several: by how much it is expected
    to enlarge the hypervolume of the front, as a share."""
    keeps: float
    """Chance that it keeps all limits."""
    trains: float
    """Chance that its training does not fail."""


class Chooser:
    """Chooses configurations one by one; see the module."""

    def __init__(
        self,
        space: SearchSpace,
        models: Models,
        told: Sequence[Mapping[str, ParamValue]],
        pending: Sequence[Mapping[str, ParamValue]],
        trials: int,
        rng: np.random.Generator,
    ) -> None:
        """``told`` are the trials of ``models``; ``trials`` is how many there are in all."""
        self.space, self.models, self.rng = space, models, rng
        self.features = Features.of(space)
        known = [params for params, known in zip(told, models.known().tolist(), strict=True) if known]
        self.measured = self.features.encode(known)
        self.baseline = self.features.encode([*known, *pending])
        """What an improvement is over: measured in all outcomes, or pending."""
        self.belief = weight(trials)
        self.elite = space.layout.read([known[i] for i in self._ranked()[:_ELITE]])

    def choose(self, seen: set[Key]) -> Pick | None:
        """The best configuration not in ``seen``, to which it is added; from then on it is pending.

        None: nothing new was found.
        """
        self.acquisition = self._acquisition()
        pool = Table.concat(
            [
                spread(self.space, _SPREAD, self.rng),
                near(self.space, self.elite, _NEAR, (0.03, 0.1, 0.3), self.rng),
            ]
        )
        for scales in ((0.03, 0.1, 0.2), (0.003, 0.01, 0.03)):
            pool = self._best(pool, 10)
            pool = Table.concat([pool, near(self.space, pool, _REFINED, scales, self.rng)])
        pool = self._best(pool, 50)
        pool = self._best(Table.concat([pool, self._polished(pool.take(slice(_POLISHED)))]), 50)
        for row, params in enumerate(self.space.layout.write(pool)):
            if (key := self.space.key(params)) not in seen:
                seen.add(key)
                pick = self._pick(params, pool.take(slice(row, row + 1)))
                self.baseline = np.concatenate([self.baseline, self.features.encode([params])])
                return pick
        return None

    def _ranked(self) -> npt.NDArray[np.intp]:
        """Measured trials, the most promising first: what keeps the limits and is not dominated."""
        mean, sd = self.models.predict(self.measured)
        goals = mean[:, : self.models.objectives]
        # On a front every trial is as good as another: fewer trials that are better come first.
        dominated = (goals[None, :, :] > goals[:, None, :]).all(axis=2).sum(axis=1)
        first = -goals[:, 0] if self.models.objectives == 1 else dominated.astype(np.float64)
        keeps, trains = self.models.chances(mean, sd)
        return np.lexsort((first, keeps * trains < 0.5))

    @cached_property
    def reference(self) -> torch.Tensor:
        """The point from which hypervolume is measured, scaled.

        A tenth of the front's extent beyond its worst values (Ishibuchi et al., "Hypervolume Subset
        Selection", 2011), and no better than the median of all trials: an early front may be one point.
        """
        goals = np.stack(self.models.told[: self.models.objectives], axis=1)[self.models.known()]
        front = self._front()
        inferred = infer_reference_point(front if len(front) else torch.from_numpy(goals))
        return torch.minimum(inferred, torch.from_numpy(np.median(goals, axis=0)))

    def _front(self) -> torch.Tensor:
        """The scaled objectives of the trials that keep the limits, not dominated by another."""
        goals = np.stack(self.models.told[: self.models.objectives], axis=1)
        kept = torch.from_numpy(goals[self.models.kept()])
        return kept[is_non_dominated(kept)] if len(kept) else kept

    def _acquisition(self) -> AcquisitionFunction:
        models, baseline = self.models, torch.from_numpy(self.baseline)
        places = range(models.objectives, len(models.outcomes))
        constraints: list[Callable[[torch.Tensor], torch.Tensor]] | None = [
            partial(_excess, place=place, bound=models.bound(place)) for place in places
        ] or None
        several = models.objectives > 1
        sampler = SobolQMCNormalSampler(
            torch.Size([_FRONT_SAMPLES if several else _SAMPLES]), seed=int(self.rng.integers(2**31))
        )
        if several:
            return qLogNoisyExpectedHypervolumeImprovement(
                models.model,
                self.reference,
                baseline,
                sampler,
                IdentityMCMultiOutputObjective(list(range(models.objectives)), len(models.outcomes)),
                constraints,
                prune_baseline=True,
            )
        first = torch.eye(len(models.outcomes), dtype=torch.float64)[0]
        return qLogNoisyExpectedImprovement(
            models.model, baseline, sampler, LinearMCObjective(first), constraints=constraints
        )

    def _value(self, features: Array) -> Array:
        """Logarithm of the expected improvement, shape (n,)."""
        with torch.no_grad():
            blocks = torch.split(torch.from_numpy(features).unsqueeze(1), 256)
            values: Array = torch.cat([self.acquisition(block) for block in blocks]).numpy()
        return values

    def _best(self, pool: Table, count: int) -> Table:
        """The most promising of the pool, the best first."""
        features = self.features.encode_table(pool)
        worth = self._value(features) + self.belief * log_prior_of(self.space, pool)
        return pool.take(np.argsort(-worth, kind="stable")[:count])

    def _polished(self, starts: Table) -> Table:
        """The legal configurations on the way from ``starts`` along the gradient to the nearest maxima."""
        begin = torch.from_numpy(self.features.encode_table(starts))
        end = begin.clone()
        movable = self._movable & self._active(starts)
        for pattern in np.unique(movable, axis=0):
            if pattern.any():
                mine = torch.from_numpy((movable == pattern).all(axis=1))
                moved, _ = gen_candidates_scipy(
                    begin[mine].unsqueeze(1),
                    self.acquisition,
                    0.0,
                    1.0,
                    options={"maxiter": 40},
                    fixed_features={int(i): begin[mine, i] for i in np.flatnonzero(~pattern)},
                )
                end[mine] = moved.squeeze(1)
        way = [begin + share * (end - begin) for share in (1.0, 0.5, 0.2)]
        return Table.concat([self._decoded(starts, step.numpy()) for step in way])

    @cached_property
    def _movable(self) -> Mask:
        """The columns of numbers and shares, shape (width,)."""
        return np.array([column.kind in ("numeric", "share") for column in self.features.columns])

    def _active(self, table: Table) -> Mask:
        """For each column whether its parameter is active, shape (n, width)."""
        owners = [self.space.layout.columns[column.parameters[0]] for column in self.features.columns]
        return table.active[:, owners]

    def _decoded(self, starts: Table, features: Array) -> Table:
        """``starts`` with the numbers and shares of ``features``; what becomes illegal is left out."""
        layout = self.space.layout
        points = layout.encode(starts)
        places = {column: place for place, column in enumerate(layout.searched)}
        for at, column in enumerate(self.features.columns):
            if column.kind == "numeric":
                points[:, places[layout.columns[column.parameters[0]]]] = features[:, at]
        for simplex, _, own in layout.groups:
            # An encoded share is the square root of what it has above the least share.
            if len(simplex.shares) > 1:
                sizes = features[:, [self.features.by_parameter[share][0] for share in simplex.shares]] ** 2
                points[:, own] = simplex.encode(simplex.rounded(sizes))
        return legalised(self.space, points)

    def _pick(self, params: Mapping[str, ParamValue], row: Table) -> Pick:
        models = self.models
        features = self.features.encode_table(row)
        mean, sd = models.predict(features)
        if models.objectives > 1:
            front = self._front()
            volume = Hypervolume(self.reference).compute(front) if len(front) else 0.0
            improves = float(np.exp(self._value(features)[0])) / volume if volume > 0 else float("inf")
        else:
            kept = self.models.kept()[self.models.known()]
            best = float(models.predict(self.measured[kept])[0][:, 0].max()) if kept.any() else -np.inf
            improves = float(ndtr((mean[0, 0] - best) / sd[0, 0]))
        keeps, trains = models.chances(mean, sd)
        return Pick(params, mean[0], sd[0], improves, float(keeps[0]), float(trains[0]))


def _excess(outcomes: torch.Tensor, place: int, bound: float) -> torch.Tensor:
    return outcomes[..., place] - bound
