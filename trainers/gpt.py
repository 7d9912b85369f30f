"""The ``gpt`` trainer: a small transformer on bytes of real text."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers import mup, text
from trainers.base import InvalidConfigurationError, Job
from trainers.batch_sizes import samples_before, samples_of
from trainers.gpt_config import GptConfig
from trainers.gpt_model import VOCABULARY, Gpt
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.torch_trainer import TorchTrainer

EVAL_BATCH = 16
"""Windows per validation batch: the same for all trials, whatever batch size they train with."""


class GptTrainer(TorchTrainer):
    """Trains :class:`trainers.gpt_model.Gpt` on random windows of the text."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = parse(GptConfig, job.config)
        super().__init__("gpt", job, self.config, clock=clock)
        if self.config.train_tokens:
            self._total = self._updates_for(self.config.train_tokens)
        self._text = text.load(self.config.data, self.config.max_bytes)
        shortest = min(len(self._text.train), len(self._text.validation))
        if shortest <= self.config.context:
            raise InvalidConfigurationError(
                f"context: must be less than the {shortest} bytes of the shorter part of the text"
            )
        starts = np.linspace(
            0,
            len(self._text.validation) - self.config.context - 1,
            self.config.eval_batches * EVAL_BATCH,
            dtype=np.int64,
        )
        self._validation = torch.split(self._windows(self._text.validation, starts), EVAL_BATCH)
        self._start(lambda: Gpt(self.config), data=self._text.digest)
        self._embedding = VOCABULARY * self.config.width
        self._parameters = sum(weight.numel() for weight in self.model.parameters())

    def _backward(self, step: int) -> Tensor:
        size = samples_of(self.config, step, self._total)
        starts = generator(self.job.seed, Purpose.DATA, step).integers(
            0, len(self._text.train) - self.config.context, size=size
        )
        return self._accumulate(self._windows(self._text.train, starts), self._loss)

    def _updates_for(self, tokens: int) -> int:
        """How many updates a training on so many tokens has."""
        batch = self.config.batch_size * self.config.context
        updates = round(tokens / batch)
        if updates < self.job.max_step:
            raise InvalidConfigurationError(
                f"train_tokens: {tokens} tokens are {updates} updates of {batch} (batch_size times "
                f"context), and a full training has {self.job.max_step} steps of at least one; "
                "train on more, or set the study's fidelity.max lower"
            )
        return updates

    def _evaluate(self) -> dict[str, float]:
        losses = torch.stack([self._loss(windows) for windows in self._validation])
        return {
            "val_loss": float(losses.mean()),
            "parameters": self._parameters,
            "non_embedding_parameters": self._parameters - self._embedding,
            "tokens": self._tokens(),
        }

    def _rates(self) -> Mapping[str, float]:
        return mup.rates(self.model, self.config)

    def _tokens(self) -> int:
        return samples_before(self.config, self._updates(self.step), self._total) * self.config.context

    def _loss(self, windows: Tensor) -> Tensor:
        """Mean cross entropy of ``windows`` (B, context + 1), in nats per byte."""
        logits = self.model(windows[:, :-1])
        return F.cross_entropy(logits.float().reshape(-1, VOCABULARY), windows[:, 1:].reshape(-1))

    def _windows(self, source: text.Bytes, starts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Tensor:
        """The ``context + 1`` bytes from each start on: (len(starts), context + 1), on the device."""
        windows = source[starts[:, None] + np.arange(self.config.context + 1)]
        return torch.from_numpy(windows).to(self.device).long()
