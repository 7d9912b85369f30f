"""The ``encoder`` trainer: a small transformer that tags or classifies text, from scratch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainers import labelled_text
from trainers.base import Job
from trainers.batch_sizes import samples_before, samples_of
from trainers.encoder_config import EncoderConfig
from trainers.encoder_model import Encoder, label_loss
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.torch_trainer import TorchTrainer

EVAL_BATCH = 64
"""Windows per validation batch: the same for all trials, whatever batch size they train with."""


class EncoderTrainer(TorchTrainer):
    """Trains :class:`trainers.encoder_model.Encoder` on random windows, all classes alike."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = parse(EncoderConfig, job.config)
        super().__init__("encoder", job, self.config, clock=clock)
        self._text = labelled_text.load(self.config.task, self.config.data, self.config.max_bytes)
        self._text.check(self.config.context)
        starts = self._text.validation.even_starts(self.config.eval_windows, self.config.context)
        self._validation = [
            self._batch(self._text.validation, starts[first : first + EVAL_BATCH])
            for first in range(0, len(starts), EVAL_BATCH)
        ]
        self._start(lambda: Encoder(self.config, len(self._text.classes)), data=self._text.digest)

    def _backward(self, step: int) -> Tensor:
        starts = self._text.train.random_starts(
            generator(self.job.seed, Purpose.DATA, step),
            samples_of(self.config, step, self.job.max_step),
            self.config.context,
        )
        return self._accumulate(torch.from_numpy(starts), self._loss)

    def _loss(self, starts: Tensor) -> Tensor:
        """Mean cross entropy of the windows that begin at ``starts``."""
        windows, labels = self._batch(self._text.train, starts.numpy())
        return label_loss(self.model(windows).float(), labels)

    def _evaluate(self) -> dict[str, float]:
        loss, right, count = 0.0, 0.0, 0
        for windows, labels in self._validation:
            logits = self.model(windows).float()
            loss += float(label_loss(logits, labels)) * labels.numel()
            right += float((logits.argmax(-1) == labels).sum())
            count += labels.numel()
        # argmax over NaN would still name a class: a diverged net has no accuracy.
        accuracy = right / count if np.isfinite(loss) else float("nan")
        return {"accuracy": accuracy, "val_loss": loss / count}

    def _tokens(self) -> int:
        return samples_before(self.config, self.step, self.job.max_step) * self.config.context

    def _batch(self, part: labelled_text.Part, starts: labelled_text.Starts) -> tuple[Tensor, Tensor]:
        """Windows (B, T) and their labels, (B, T) to tag and (B,) to classify, on the device."""
        places = starts[:, None] + np.arange(self.config.context)
        labelled = places if self.config.task == "tagging" else starts
        windows, labels = torch.from_numpy(part.text[places]), torch.from_numpy(part.labels[labelled])
        return windows.to(self.device).long(), labels.to(self.device).long()
