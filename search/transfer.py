"""Learning from earlier studies: which to follow, what to try first, what to expect of a configuration.

A *source* is an earlier study, perhaps of another task, another metric and another space. Its trials are
mapped onto this study's space (:mod:`search.overlap`); what the source says nothing of is at its middle.
It is used twice:

- :func:`start`: its best configurations, unlike each other, are tried first, two of them whatever comes of
  it. They say whether the source is followed. One that is not leaves no trace but what these two cost.
- :class:`Informed`: what a Gaussian process of a source that is followed says of a configuration's end is
  one more column of the encoding that this study's own model sees. How much of a study's losses it explains
  is found by that model: f(x) = rho f_source(x) + delta(x), the autoregressive co-kriging of Kennedy and
  O'Hagan, "Predicting the output from a complex computer code when fast approximations are available"
  (2000), with rho integrated out by the model's linear kernel.

Nothing is remembered between decisions; the fit of a source, a pure function of its trials, is cached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt

from search.decision import Launch
from search.domains import ParamValue
from search.features import Features
from search.legal import legal_at
from search.overlap import placed
from search.sampling import sobol_points
from search.space import Key, SearchSpace
from search.strategies.rungs import rung_levels
from search.surrogates.curve_gp import CurveGP, fit
from search.surrogates.history import LossScale, Points, Progress, most_telling
from search.table import Table
from search.view import Fidelity, Source, StudyView, TrialView

Array = npt.NDArray[np.float64]

OPENERS = 2
"""Configurations of each source that are tried whatever comes of it."""
FIRST = 5
"""Configurations of a source that are tried first if it is followed, the openers among them."""
_RIVALS = 4
"""The study's own trials that a source is judged by: the first ones that come as far as the openers."""
_LATEST = 30
"""Trials of the strategy after which nothing of a source is started any more."""
_ETA = 3
"""Openers are trained to the second rung of this ratio: the very first steps say little of the end."""
_APART = 0.3
"""Least distance between two of them, in the encoding that models see, while there are such."""
_TELLING = 4
"""Finite results without which a source has no model."""
_MODEL_POINTS = 300
_DIVERGED = 3.0
"""The largest scaled loss that a failure counts as."""
_REFERENCE = 256
"""Configurations, even over the space, whose predicted ends give the scale of a source's column."""
_GAIN = 0.3
"""Of a source's column: so much for a standard deviation, about as much as other columns vary."""
_CLIPPED = 3.0
"""Standard deviations beyond which a source's prediction is cut off."""


Standing = Literal["in doubt", "followed", "not followed"]


@dataclass(frozen=True, slots=True)
class Start:
    """What earlier studies mean for the next decision."""

    due: tuple[Launch, ...]
    """What is to be started before the strategy is asked."""
    view: StudyView
    """What the strategy is to see."""
    standings: tuple[tuple[str, Standing], ...]
    """Of each source, with its name."""


def start(view: StudyView, first_target: int) -> Start:
    """Which configurations of the sources are due, and which sources are followed.

    ``first_target`` is that of the strategy's own new trials. Each source opens with two trials, trained to
    the second rung. It is followed if both are better there than the median of the study's own first four
    that come so far: then more of it is due, and the strategy sees all. While it is in doubt, and if it is
    not followed, the strategy sees neither the source nor its openers: so a misleading source costs them
    and nothing else. (Where new trials are trained fully, or the space is finite, openers are not hidden:
    they would be too dear to lose, or be tried again.) Measurements that break a limit of this study say
    nothing for a source.
    """
    target = _opening(view.fidelity, first_target)
    counted = view.counted().trials
    mine = [trial for trial in counted if trial.origin == "strategy"]
    picks = [_picks(view, source, target) for source in view.sources]
    keys = [[view.space.key(pick.params) for pick in own] for own in picks]
    theirs = {key for own in keys for key in own}
    rivals = [trial for trial in mine if view.space.key(trial.params) not in theirs]
    bar = _losses(view, rivals, target)[:_RIVALS]
    by_key = {view.space.key(trial.params): trial for trial in counted}
    due: dict[Key, Launch] = {}
    hidden: set[Key] = set()
    shown: set[Key] = set()
    followed: list[Source] = []
    standings: list[tuple[str, Standing]] = []
    for source, own, names in zip(view.sources, picks, keys, strict=True):
        openers = [by_key[key] for key in names[:OPENERS] if key in by_key]
        losses = _losses(view, openers, target)
        standing: Standing = "in doubt"
        if len(losses) >= min(OPENERS, len(own)) > 0 and len(bar) == _RIVALS:
            standing = "followed" if max(losses) < np.median(bar) else "not followed"
        standings.append((source.name, standing))
        if standing == "followed":
            followed.append(source)
            shown.update(names)
        elif target < view.fidelity.max and not view.space.finite:
            hidden.update(names[:OPENERS])
        wanted = FIRST if standing == "followed" else OPENERS
        for key, pick in list(zip(names, own, strict=True))[:wanted]:
            if key not in by_key:
                due.setdefault(key, pick)
    if len(mine) >= _LATEST:
        due = {}
    hidden -= shown  # two sources may have openers in common
    trials = tuple(
        t for t in view.trials if t.origin != "strategy" or view.space.key(t.params) not in hidden
    )
    seen = replace(view, trials=trials, sources=tuple(followed))
    return Start(tuple(due.values()), seen, tuple(standings))


def _opening(fidelity: Fidelity, first_target: int) -> int:
    """To where openers are trained: the second rung, if new trials are not trained further anyway."""
    levels = rung_levels(fidelity, _ETA)
    return first_target if len(levels) < 3 else max(first_target, levels[1])


def _losses(view: StudyView, trials: Sequence[TrialView], target: int) -> list[float]:
    """The best losses up to ``target`` of those trials that have come so far, or failed on the way."""
    losses = []
    for trial in trials:
        if trial.step >= target or trial.status == "failed":
            curve = zip(trial.steps, trial.values, strict=True)
            losses.append(min((view.loss(v) for step, v in curve if step <= target), default=math.inf))
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
        columns = [0.5 + _GAIN * past.expected(features) for _, past in self.sources]
        return np.column_stack([features, *columns])

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
        names = {self.space.dimensions[at] for at in np.flatnonzero(self.known.any(axis=0)).tolist()}
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


def _picks(view: StudyView, source: Source, target: int) -> list[Launch]:
    """The best configurations of a source that are legal here and unlike each other, best first."""
    past = _Past.of(view.space, source)
    order = past.best_first().tolist()
    apart: list[int] = []
    for at in order:
        distances = np.linalg.norm(past.features[apart] - past.features[at], axis=1)
        if len(apart) < FIRST and (not apart or distances.min() >= _APART):
            apart.append(at)
    apart += [at for at in order if at not in apart][: FIRST - len(apart)]
    chosen: list[Launch] = []
    bases = sobol_points(len(view.space.dimensions), 0, view.seed)
    reason = f"number {{}} of the best in the study {source.name!r}, to {target} {view.fidelity.unit} first"
    for rank, at in enumerate(apart, start=1):
        # What the source says nothing of is tried at different places.
        point = np.where(past.known[at], past.points[at], next(bases))
        params = legal_at(view.space, point)
        if params is not None:
            chosen.append(Launch(params, target, reason.format(rank)))
    return chosen


def _rank_correlation(one: Array, other: Array) -> float:
    """Spearman's, ties in order of place; 0 for fewer than three."""
    if len(one) < 3:
        return 0.0
    ranks = [np.argsort(np.argsort(values, kind="stable")) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
