"""Learning from earlier studies: what to try first, and what to expect of a configuration.

A *source* is an earlier study, perhaps of another task, another metric and another space. Its trials are
mapped onto this study's space (:mod:`search.overlap`); what the source says nothing of is at its middle.
They are used twice:

- :func:`portfolio`: the best configurations of the sources, unlike each other, are this study's first. With
  a strategy that starts trials on a low rung, misleading ones cost a few short trainings.
- :class:`Informed`: what a Gaussian process of the source says of a configuration's end is one more column
  of the encoding that this study's own model sees. How much of a study's losses it explains, and in which
  direction, is found by that model: f(x) = rho f_source(x) + delta(x), the autoregressive co-kriging of
  Kennedy and O'Hagan, "Predicting the output from a complex computer code when fast approximations are
  available" (2000), with rho integrated out by the model's linear kernel. So a source that has nothing to
  say of this study is soon not listened to, and there is no weight to be set.

Nothing is remembered between decisions; the fit of a source, a pure function of its trials, is cached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice, zip_longest

import numpy as np
import numpy.typing as npt

from search.domains import ParamValue
from search.features import Features
from search.legal import legal_at
from search.overlap import placed
from search.sampling import sobol_points, tried
from search.space import SearchSpace
from search.surrogates.curve_gp import CurveGP, fit
from search.surrogates.history import LossScale, Points, Progress, most_telling
from search.table import Table
from search.view import Source, StudyView, TrialView

Array = npt.NDArray[np.float64]

FIRST = 5
"""Configurations of the sources that are tried first; one of each source, if there are more sources."""
OPENERS = 2
"""So many of them start whatever comes of it."""
_LATEST = 20
"""Trials of the strategy after which none of them is started any more."""
_APART = 0.3
"""Least distance between two of them, in the encoding that models see, while there are such."""
_TELLING = 4
"""Finite results without which a source has no model."""
_MODEL_POINTS = 300
_DIVERGED = 3.0
"""The largest scaled loss that a failure counts as."""
_REFERENCE = 256
"""Configurations, even over the space, whose predicted ends give the scale of a source's column."""
GAIN = 0.3
BELIEF = 0.0
_CLIPPED = 3.0
"""Standard deviations beyond which a source's prediction is cut off."""


@dataclass(frozen=True, slots=True)
class First:
    """A configuration to start with."""

    params: Mapping[str, ParamValue]
    reason: str


def portfolio(view: StudyView, target: int) -> list[First]:
    """The configurations of the sources that are due before the strategy is asked.

    ``target`` is the first target of a new trial. The sources take turns, each with the best that is left of
    its own, by what its model says of the end. Two are due at once, the others as long as those before them
    are better, in the median, than the strategy's own trials at the target.
    """
    count = max(FIRST, len(view.sources))
    mine = [trial for trial in view.trials if trial.origin == "strategy"]
    if len(mine) >= _LATEST:
        return []
    ranked = [_ranked(view, source, count) for source in view.sources]
    turns = [first for turn in zip_longest(*ranked) for first in turn if first is not None][:count]
    keys = [view.space.key(first.params) for first in turns]
    seen = tried(view)
    due = [first for first, key in zip(turns, keys, strict=True) if key not in seen]
    started = [trial for trial in mine if view.space.key(trial.params) in keys]
    others = [trial for trial in mine if view.space.key(trial.params) not in keys]
    if len(started) < OPENERS:
        return due[: OPENERS - len(started)]
    losses, rivals = _measured(view, started, target), _measured(view, others, target)
    if len(losses) < len(started) or len(rivals) < OPENERS or np.median(losses) > np.median(rivals):
        return []
    return due


def _measured(view: StudyView, trials: Sequence[TrialView], target: int) -> list[float]:
    """The best losses up to ``target`` of those trials that have come so far, or failed; 1e300 at most."""
    losses = []
    for trial in trials:
        if trial.step >= target or not (trial.active or trial.status == "paused"):
            values = [view.loss(v) for s, v in zip(trial.steps, trial.values, strict=True) if s <= target]
            losses.append(min([*values, 1e300]))
    return losses


class Informed:
    """The encoding of a space for a model (:mod:`search.features`), with a column for each source.

    A source's column is 0.5 where it expects an end like that of most configurations, lower where it
    expects a better one, in standard deviations of its own expectations over the space.
    """

    def __init__(self, view: StudyView) -> None:
        self.own = Features.of(view.space)
        pasts = [(source, _Past.of(view.space, source)) for source in view.sources]
        self.sources = [(source.name, past) for source, past in pasts if past.telling]

    def encode(self, configurations: Sequence[Mapping[str, ParamValue]]) -> Array:
        """The vectors of legal configurations, shape (n, width)."""
        return self.encode_table(self.own.space.layout.read(configurations))

    def encode_table(self, table: Table) -> Array:
        """:meth:`encode` of configurations that are columns already."""
        features = self.own.encode_table(table)
        columns = [0.5 + GAIN * past.expected(features) for _, past in self.sources]
        return np.column_stack([features, *columns])

    def log_belief(self, features: Array, told: Array, ends: Array) -> Array:
        total = np.zeros(len(features))
        first = self.own.width
        for at in range(len(self.sources)):
            agrees = max(0.0, _rank_correlation(told[:, first + at], ends))
            total -= BELIEF * agrees * (features[:, first + at] - 0.5) / GAIN / len(self.sources)
        return total

    def agreement(self, features: Array, ends: Array) -> list[dict[str, object]]:
        """For diagnostics: how each source's order of this study's trials agrees with their own.

        ``features`` are of :meth:`encode`, shape (n, width), ``ends`` what this study's model expects of
        the trials, shape (n,). Spearman's rank correlation: 1 the same order, -1 the reverse.
        """
        first = self.own.width
        return [
            {
                "source": name,
                "trials": len(past.losses),
                "agreement": round(_rank_correlation(features[:, first + at], ends), 3),
            }
            for at, (name, past) in enumerate(self.sources)
        ]


@dataclass(frozen=True)
class _Past:
    """A source's trials on this study's space: ``n`` of them."""

    space: SearchSpace
    points: Array
    """Of the cube, shape (n, d); 0.5 where the source says nothing."""
    known: npt.NDArray[np.bool_]
    """Where it says something, shape (n, d)."""
    progress: Array
    """Shape (n,)."""
    losses: Array
    """Shape (n,); infinite for a failure."""

    @classmethod
    def of(cls, space: SearchSpace, source: Source) -> _Past:
        points: list[Array] = []
        known: list[npt.NDArray[np.bool_]] = []
        steps: list[int] = []
        losses: list[float] = []
        for trial in source.trials:
            point = placed(space, trial.params)
            if point is not None:
                points.append(np.where(np.isnan(point), 0.5, point))
                known.append(~np.isnan(point))
                steps.append(trial.step)
                loss = -trial.value if source.maximize else trial.value
                losses.append(loss if math.isfinite(loss) else math.inf)
        shape = (len(points), len(space.dimensions))
        return cls(
            space,
            np.array(points).reshape(shape),
            np.array(known, dtype=np.bool_).reshape(shape),
            Progress.of(source.fidelity)(np.array(steps, dtype=np.float64)),
            np.array(losses, dtype=np.float64),
        )

    @property
    def telling(self) -> bool:
        """Whether there is enough for a model."""
        return int(np.isfinite(self.losses).sum()) >= _TELLING and len(self.columns) > 0

    @cached_property
    def columns(self) -> npt.NDArray[np.intp]:
        """The columns of the encoding that belong to parameters of which the source says something."""
        own = Features.of(self.space)
        names = {
            name for name, told in zip(self.space.dimensions, self.known.any(axis=0), strict=True) if told
        }
        return np.array(
            [at for at, column in enumerate(own.columns) if names.intersection(column.parameters)],
            dtype=np.intp,
        )

    @cached_property
    def features(self) -> Array:
        """Shape (n, columns)."""
        table = self.space.layout.decode(self.points)
        encoded: Array = Features.of(self.space).encode_table(table)[:, self.columns]
        return encoded

    @cached_property
    def model(self) -> CurveGP:
        return _model(
            self.features.shape, self.features.tobytes(), self.progress.tobytes(), self.losses.tobytes()
        )

    def ends(self, features: Array, owners: npt.NDArray[np.intp] | None = None) -> Array:
        """What the source's model expects at the end, as scaled losses; ``features`` of all columns."""
        nobody = np.full(len(features), -1, dtype=np.intp)
        return self.model.outlook(features, nobody if owners is None else owners).mean

    @cached_property
    def _scale(self) -> tuple[float, float]:
        """Mean and standard deviation of the expected ends over the space."""
        dimensions = len(self.space.dimensions)
        points = np.array(list(islice(sobol_points(dimensions, 0, 0), _REFERENCE)))
        features = Features.of(self.space).encode_table(self.space.layout.decode(points))
        ends = self.ends(features[:, self.columns])
        return float(ends.mean()), max(float(ends.std()), 1e-6)

    def expected(self, features: Array) -> Array:
        """What the source expects of ``features`` (m, width of this study's encoding), standardised."""
        mean, sd = self._scale
        expected: Array = np.clip((self.ends(features[:, self.columns]) - mean) / sd, -_CLIPPED, _CLIPPED)
        return expected

    def best_first(self) -> npt.NDArray[np.intp]:
        """The trials with finite losses, by what they are expected to come to."""
        finite = np.flatnonzero(np.isfinite(self.losses))
        if not self.telling:
            return finite[np.argsort(self.losses[finite], kind="stable")]
        ends = self.ends(self.features, np.arange(len(self.losses), dtype=np.intp))
        return finite[np.argsort(ends[finite], kind="stable")]


@lru_cache(maxsize=16)
def _model(shape: tuple[int, int], features: bytes, progress: bytes, losses: bytes) -> CurveGP:
    """The model of a source, from the bytes of its arrays (which are what a cache can compare)."""
    found = np.frombuffer(losses)
    finite = np.isfinite(found)
    scale = LossScale.of(found[finite].tolist(), found[finite].tolist())
    values = np.zeros(len(found))
    values[finite] = scale.scale(found[finite])
    values[~finite] = min(float(values[finite].max()), _DIVERGED)
    every = Points(
        np.frombuffer(features).reshape(shape).copy(),
        np.frombuffer(progress).copy(),
        np.arange(len(found), dtype=np.intp),
        values,
    )
    rng = np.random.default_rng(0)  # the same model whoever asks
    told = most_telling(every, found, _MODEL_POINTS, rng)
    return CurveGP(told, fit(told, rng))


def _ranked(view: StudyView, source: Source, count: int) -> list[First]:
    """The best configurations of a source that are legal here, best first."""
    past = _Past.of(view.space, source)
    order = past.best_first()
    apart: list[int] = []
    for at in order.tolist():
        distances = np.linalg.norm(past.features[apart] - past.features[at], axis=1)
        if len(apart) < count and (not apart or distances.min() >= _APART):
            apart.append(at)
    apart += [at for at in order.tolist() if at not in apart][: count - len(apart)]
    chosen: list[First] = []
    bases = sobol_points(len(view.space.dimensions), 0, view.seed)
    for rank, at in enumerate(apart, start=1):
        # What the source says nothing of is tried at different places.
        point = np.where(past.known[at], past.points[at], next(bases))
        params = legal_at(view.space, point)
        if params is not None:
            chosen.append(First(params, f"number {rank} of what was best in the study {source.name!r}"))
    return chosen


def _rank_correlation(one: Array, other: Array) -> float:
    """Spearman's, ties in order of place; 0 for fewer than three."""
    if len(one) < 3:
        return 0.0
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
