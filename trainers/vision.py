"""The ``vision`` trainer: a small net that says what an image shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import images
from trainers.base import Job
from trainers.batches import epoch_batch
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.tabular import mlp
from trainers.torch_trainer import TorchTrainer
from trainers.vision_config import VisionConfig

EVAL_BATCH = 256
"""Images per validation batch: the same for all trials, whatever batch size they train with."""


class VisionTrainer(TorchTrainer):
    """Trains on batches from a fresh permutation of the images in each epoch."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = config = parse(VisionConfig, job.config)
        super().__init__("vision", job, config, clock=clock)
        self._images = (
            images.folder(config.data, config.size, gray=config.gray) if config.data else images.digits()
        )
        labels = with_noise(self._images, config.label_noise, generator(job.seed, Purpose.LABELS))
        self._pixels, self._labels = self._images.pixels.to(self.device), labels.to(self.device)
        self._start(
            lambda: build_net(config, self._images.pixels.shape[1:], len(self._images.classes)),
            data=self._images.digest,
        )

    def _backward(self, step: int) -> Tensor:
        chosen = epoch_batch(
            self.config, step, seed=self.job.seed, total=self.job.max_step, of=self._images.training
        )
        return self._accumulate(torch.from_numpy(chosen).to(self.device), self._loss)

    def _loss(self, batch: Tensor) -> Tensor:
        """Mean cross entropy of the images with the indices ``batch``."""
        return F.cross_entropy(self.model(self._pixels[batch]).float(), self._labels[batch])

    def _evaluate(self) -> dict[str, float]:
        first = self._images.training
        logits = torch.cat([self.model(batch) for batch in torch.split(self._pixels[first:], EVAL_BATCH)])
        loss = float(F.cross_entropy(logits.float(), self._labels[first:]))
        right = float((logits.argmax(1) == self._labels[first:]).double().mean())
        return {
            # argmax over NaN would still name a class: a diverged net has no accuracy.
            "accuracy": right if np.isfinite(loss) else float("nan"),
            "val_loss": loss,
            "weights": float(sum(weight.numel() for weight in self.model.parameters())),
        }


def with_noise(data: images.Images, share: float, noise: np.random.Generator) -> Tensor:
    """The labels, a ``share`` of those to train on replaced by random ones, some of which are right."""
    wrong = torch.from_numpy(noise.random(data.training) < share)
    random_labels = torch.from_numpy(noise.integers(0, len(data.classes), data.training))
    labels = data.labels.clone()
    labels[: data.training] = torch.where(wrong, random_labels, labels[: data.training])
    return labels


def build_net(config: VisionConfig, shape: torch.Size, classes: int) -> nn.Module:
    """Images (B, *shape) -> logits (B, classes).

    A stage of the convolutional net is a 3 x 3 convolution, rectified, and a maximum over 2 x 2 pixels;
    after the last one a linear layer sees all that is left.
    """
    if config.model == "mlp":
        net = mlp(shape.numel(), classes, width=config.width, depth=config.depth, dropout=config.dropout)
        return nn.Sequential(nn.Flatten(), net)
    channels = [shape[0], *(config.width * 2**stage for stage in range(config.depth))]
    stages: list[nn.Module] = []
    for before, after in pairwise(channels):
        stages += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    left = channels[-1] * (shape[1] // 2**config.depth) ** 2
    return nn.Sequential(*stages, nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(left, classes))
