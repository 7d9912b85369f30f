"""The ``digits`` trainer: a small convolutional net on scikit-learn's handwritten digits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from trainers.base import Job
from trainers.batches import epoch_batch
from trainers.digits_config import TRAINING_DIGITS, DigitsConfig
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.torch_trainer import TorchTrainer

CLASSES = 10
_SPLIT_SEED = 0
"""All trials of all studies train and validate on the same digits."""


class DigitsTrainer(TorchTrainer):
    """Trains on batches from a fresh permutation of the digits in each epoch."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = parse(DigitsConfig, job.config)
        super().__init__("digits", job, self.config, clock=clock)
        images, labels = _digits()
        labels = labels.clone()
        noise = generator(job.seed, Purpose.LABELS)
        wrong = torch.from_numpy(noise.random(TRAINING_DIGITS) < self.config.label_noise)
        random_labels = torch.from_numpy(noise.integers(0, CLASSES, TRAINING_DIGITS))
        labels[:TRAINING_DIGITS] = torch.where(wrong, random_labels, labels[:TRAINING_DIGITS])
        self._images, self._labels = images.to(self.device), labels.to(self.device)
        self._start(lambda: build_net(self.config), data="sklearn digits")

    def _backward(self, step: int) -> Tensor:
        return self._accumulate(torch.from_numpy(self._batch(step)).to(self.device), self._loss)

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean cross entropy of the digits with the indices ``batch``."""
        return F.cross_entropy(self.model(self._images[batch]).float(), self._labels[batch])

    def _evaluate(self) -> dict[str, float]:
        logits = self.model(self._images[TRAINING_DIGITS:]).float()
        labels = self._labels[TRAINING_DIGITS:]
        loss = float(F.cross_entropy(logits, labels))
        if not np.isfinite(loss):
            # argmax over NaN would still name a class: a diverged net has no accuracy.
            accuracy = float("nan")
        else:
            accuracy = float((logits.argmax(1) == labels).double().mean())
        weights = float(sum(weight.numel() for weight in self.model.parameters()))
        return {"accuracy": accuracy, "val_loss": loss, "weights": weights}

    def _batch(self, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Indices of step number ``step``: the next ones of an endless row of permutations."""
        return epoch_batch(
            self.config, step, seed=self.job.seed, total=self.job.max_step, of=TRAINING_DIGITS
        )


def build_net(config: DigitsConfig) -> nn.Module:
    """Images (B, 1, 8, 8) -> logits (B, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, config.channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(config.channels, 2 * config.channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(config.dropout),
        nn.Linear(2 * config.channels * 16, CLASSES),
    )


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """Images (1797, 1, 8, 8) in 0..1 and labels (1797,), shuffled once; the first ones train."""
    data = load_digits()
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(data.target))
    images = torch.from_numpy(data.images[order].astype(np.float32) / 16.0)[:, None]
    return images, torch.from_numpy(data.target[order].astype(np.int64))
