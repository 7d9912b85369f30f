"""The ``tabular`` trainer: a multi-layer perceptron on a table."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import tables
from trainers.base import Job
from trainers.batches import epoch_batch
from trainers.settings import parse
from trainers.tabular_config import TabularConfig
from trainers.torch_trainer import TorchTrainer


class TabularTrainer(TorchTrainer):
    """Trains on batches from a fresh permutation of the rows in each epoch."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = parse(TabularConfig, job.config)
        super().__init__("tabular", job, self.config, clock=clock)
        self._table = tables.load(self.config.data)
        self._inputs = torch.from_numpy(self._table.inputs.astype(np.float32)).to(self.device)
        targets = self._table.targets
        self._targets = torch.from_numpy(targets if self._table.classes else targets.astype(np.float32)).to(
            self.device
        )
        self._start(
            lambda: mlp(
                self._table.inputs.shape[1],
                self._table.outputs,
                width=self.config.width,
                depth=self.config.depth,
                dropout=self.config.dropout,
            ),
            data=self._table.digest,
        )

    def _backward(self, step: int) -> Tensor:
        rows = epoch_batch(
            self.config, step, seed=self.job.seed, total=self.job.max_step, of=self._table.training
        )
        return self._accumulate(torch.from_numpy(rows).to(self.device), self._loss)

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean cross entropy, or mean squared error, of the rows with the indices ``batch``."""
        outputs, targets = self.model(self._inputs[batch]).float(), self._targets[batch]
        if self._table.classes:
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs[:, 0], targets)

    def _evaluate(self) -> dict[str, float]:
        outputs = self.model(self._inputs[self._table.training :]).double().cpu().numpy()
        weights = float(sum(weight.numel() for weight in self.model.parameters()))
        return {**tables.scores(outputs, self._table), "weights": weights}


def mlp(inputs: int, outputs: int, *, width: int, depth: int, dropout: float) -> nn.Module:
    """(B, inputs) -> (B, outputs), with ``depth`` hidden layers of rectified linear units."""
    layers: list[nn.Module] = []
    for layer in range(depth):
        layers += [nn.Linear(width if layer else inputs, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width if depth else inputs, outputs))
