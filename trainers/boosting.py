"""The ``boosting`` trainer: gradient-boosted trees on a table, one more per step.

Newton boosting (Friedman 2001, Annals of Statistics 29; Chen & Guestrin 2016, arXiv:1603.02754) of
scikit-learn's regression trees. With ``g`` and ``h`` the first and second derivative of the loss by a row's
output a tree is fitted to ``-g / h`` with weights ``h``, so that a leaf predicts the Newton step
``-sum g / sum h`` of its rows::

    cross entropy, per class   g = p - y    h = p (1 - p)
    squared error / 2          g = f - y    h = 1

scikit-learn's own ensembles either draw the same random numbers again when fitted further
(``HistGradientBoosting``) or can only be saved by pickling (``GradientBoosting``). To go on it is enough to
know what the trees so far predict for each row: that is the saved state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from sklearn.tree import DecisionTreeRegressor

from trainers import checkpoint, tables
from trainers.base import Job, Measured
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.tables import Floats
from trainers.tabular_config import BoostingConfig

_SMALLEST_CURVATURE = 1e-6


class BoostingTrainer:
    """See :class:`trainers.base.Trainer`; a step adds one tree per output."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = parse(BoostingConfig, job.config)
        self._job, self._clock = job, clock
        self._table = tables.load(self.config.data)
        self._identity = checkpoint.identity("boosting", job, asdict(self.config), data=self._table.digest)
        self._targets = self._table.targets.astype(np.float64)[:, None]
        if self._table.classes:
            self._targets = np.eye(self._table.classes)[self._table.targets.astype(np.int64)]
        self._outputs: Floats = np.zeros((len(self._targets), self._table.outputs))
        self._step, self._seconds = 0, 0.0

    @property
    def step(self) -> int:
        """Trees so far (of each class)."""
        return self._step

    def train(self, until: int) -> Iterator[Measured]:
        """Add trees up to ``until``; see :class:`trainers.base.Trainer`."""
        while self._step < until:
            started = self._clock()
            self._add_trees(generator(self._job.seed, Purpose.DATA, self._step))
            self._step += 1
            metrics = self._measure() if self._job.measured_at(self._step) else None
            self._seconds += self._clock() - started
            if metrics is not None:
                yield Measured(self._step, metrics, self._seconds)

    def save(self, folder: Path) -> None:
        """Write the state into ``folder``."""
        position = checkpoint.Position(self._step, self._seconds)
        checkpoint.save(folder, self._identity, position, {"outputs": torch.from_numpy(self._outputs)})

    def load(self, folder: Path) -> None:
        """Take up the state in ``folder``; raises :class:`trainers.checkpoint.CheckpointError`."""
        fork = BoostingConfig if self._job.forked else None
        position = checkpoint.load(folder, self._identity, fork=fork)
        self._outputs = checkpoint.load_state(folder, torch.device("cpu"))["outputs"].numpy()
        self._step, self._seconds = position.step, position.seconds

    def _add_trees(self, draw: np.random.Generator) -> None:
        training = self._table.training
        count = max(1, round(self.config.rows * training))
        rows = draw.permutation(training)[:count]
        gradient = self._predicted()[rows] - self._targets[rows]
        # A copy: all trees of a step start from the same outputs.
        outputs = self._outputs.copy()
        planned = self._job.planned_lr(self._step)
        lr = self.config.lr if planned is None else planned
        for output in range(self._table.outputs):
            curvature = np.ones(count)
            if self._table.classes:
                p = gradient[:, output] + self._targets[rows, output]
                curvature = np.maximum(p * (1 - p), _SMALLEST_CURVATURE)
            tree = DecisionTreeRegressor(
                max_depth=self.config.depth,
                min_samples_leaf=self.config.min_leaf,
                max_features=self.config.features,
                random_state=int(draw.integers(2**31)),
            )
            tree.fit(self._table.inputs[rows], -gradient[:, output] / curvature, sample_weight=curvature)
            outputs[:, output] += lr * tree.predict(self._table.inputs)
        self._outputs = outputs

    def _predicted(self) -> Floats:
        """Probabilities of the classes, or the target: (rows, outputs)."""
        if not self._table.classes:
            return self._outputs
        raised = np.exp(self._outputs - self._outputs.max(axis=1, keepdims=True))
        probabilities: Floats = raised / raised.sum(axis=1, keepdims=True)
        return probabilities

    def _measure(self) -> dict[str, float]:
        training = self._table.training
        return {
            **tables.scores(self._outputs[training:], self._table),
            "train_loss": tables.loss(self._outputs[:training], self._table.targets[:training]),
        }
