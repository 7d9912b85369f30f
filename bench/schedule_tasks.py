"""The two trainings on which learning-rate schedules are compared: small enough for one core.

Each is split in three: what it trains on, what a search may see (validation), and what only the final
score is made with (test). Batches depend on the seed and the number of the step alone, so two trainings
that are forked from one another see the same ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits

from search.decision import Schedule
from search.space import ParamValue
from trainers.base import Job
from trainers.gpt import EVAL_BATCH, GptTrainer
from trainers.randomness import Purpose, generator

GPT_SETTINGS: dict[str, ParamValue] = {
    "width": 64,
    "depth": 2,
    "heads": 1,
    "context": 32,
    "batch_size": 8,
    "max_bytes": 4_000_000,
    "optimizer": "adamw",
}
"""A byte-level GPT of 115,000 parameters; all else as the trainer has it."""

_VALIDATION_BATCHES, _TEST_BATCHES = 8, 64
"""Of 16 windows each."""


def rates_of(schedule: Schedule, first: int, until: int) -> tuple[float, ...]:
    """The rates of steps ``first`` to ``until`` - 1; see :data:`search.decision.Schedule`."""
    steps, rates = zip(*schedule, strict=True)
    return tuple(np.interp(np.arange(first, until), steps, rates).tolist())


Floats = npt.NDArray[np.float32]


class Training(Protocol):
    """One training in memory."""

    @property
    def step(self) -> int:
        """Steps trained so far."""
        ...

    def advance(self, until: int, schedule: Schedule) -> None:
        """Train to step ``until``."""
        ...

    def snapshot(self) -> Any:
        """All that :meth:`restore` needs, whatever the training does afterwards."""
        ...

    def restore(self, state: Any) -> None:
        """Go back to a snapshot."""
        ...

    def validation(self) -> float:
        """The loss that a search may see."""
        ...

    def test(self) -> float:
        """The loss that counts in the end."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained, for how long, and in which range the rate is looked for."""

    name: str
    steps: int
    low: float
    high: float
    start: Callable[[int], Training]
    """A training from its beginning, for a seed."""


class _Gpt(GptTrainer):
    """The trainer ``gpt`` with rates from a schedule and checkpoints in memory."""

    _planned: tuple[float, ...] = ()

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        half = len(self._text.validation) // 2
        parts = (self._text.validation[:half], self._text.validation[half:])
        self._parts = [
            torch.split(self._windows(part, self._starts(len(part), batches)), 4 * EVAL_BATCH)
            for part, batches in zip(parts, (_VALIDATION_BATCHES, _TEST_BATCHES), strict=True)
        ]

    def advance(self, until: int, schedule: Schedule) -> None:
        first, self._planned = self._step, rates_of(schedule, self._step, until)
        self._first = first
        self.model.train()
        while self._step < until:
            self._train_step()

    def snapshot(self) -> Any:
        return copy.deepcopy((self._step, self.model.state_dict(), self.optimizer.state()))

    def restore(self, state: Any) -> None:
        step, model, optimizer = copy.deepcopy(state)
        self._step = step
        self.model.load_state_dict(model)
        self.optimizer.load(optimizer)

    def validation(self) -> float:
        return self._loss_on(0)

    def test(self) -> float:
        return self._loss_on(1)

    def _loss_on(self, part: int) -> float:
        self.model.eval()
        with torch.no_grad():
            losses = torch.stack([self._loss(windows) for windows in self._parts[part]])
        return float(losses.mean())

    def _starts(self, length: int, batches: int) -> npt.NDArray[np.int64]:
        return np.linspace(0, length - self.config.context - 1, batches * EVAL_BATCH, dtype=np.int64)

    def _lr(self, step: int) -> float:
        return self._planned[step - self._first]


class _NoisyDigits:
    """An MLP 64-128-128-10, SGD with momentum, on scikit-learn's digits, 15 % of training labels wrong.

    In NumPy: a step takes a tenth of the time that it takes in torch.
    """

    _TRAIN, _VALIDATION, _BATCH, _NOISE, _MOMENTUM = 1078, 359, 32, 0.15, 0.9
    _SIZES = (64, 128, 128, 10)

    def __init__(self, seed: int) -> None:
        images, labels = _digits()
        noise = generator(seed, Purpose.LABELS)
        wrong = noise.random(self._TRAIN) < self._NOISE
        noisy = (labels[: self._TRAIN] + wrong * noise.integers(1, 10, self._TRAIN)) % 10
        ends = (self._TRAIN, self._TRAIN + self._VALIDATION, len(labels))
        self._seed, self._step = seed, 0
        self._images, self._targets = images[: self._TRAIN], np.eye(10, dtype=np.float32)[noisy]
        self._parts = [
            (images[a:b], labels[a:b]) for a, b in zip((ends[0], ends[1]), (ends[1], ends[2]), strict=True)
        ]
        weights = generator(seed, Purpose.WEIGHTS)
        self._weights: list[Floats] = []
        for inputs, outputs in zip(self._SIZES[:-1], self._SIZES[1:], strict=True):
            # He et al. (2015), for ReLU.
            self._weights += [
                (weights.standard_normal((inputs, outputs)) * (2 / inputs) ** 0.5).astype(np.float32),
                np.zeros(outputs, dtype=np.float32),
            ]
        self._momentum = [np.zeros_like(array) for array in self._weights]

    @property
    def step(self) -> int:
        return self._step

    def advance(self, until: int, schedule: Schedule) -> None:
        rates = rates_of(schedule, self._step, until)
        with np.errstate(all="ignore"):  # a diverging training overflows; its loss says so
            for rate in rates:
                self._one(rate)

    def _one(self, rate: float) -> None:
        batch = generator(self._seed, Purpose.DATA, self._step).integers(0, self._TRAIN, self._BATCH)
        layers = self._forward(self._images[batch])
        delta = (_softmax(layers[-1]) - self._targets[batch]) / self._BATCH
        gradients: list[Floats] = []
        for place in reversed(range(0, len(self._weights), 2)):
            inputs = layers[place // 2]
            gradients += [delta.sum(0), inputs.T @ delta]
            delta = (delta @ self._weights[place].T) * (inputs > 0)
        for weight, speed, gradient in zip(self._weights, self._momentum, reversed(gradients), strict=True):
            speed *= self._MOMENTUM
            speed += gradient
            weight -= np.float32(rate) * speed
        self._step += 1

    def _forward(self, images: Floats) -> list[Floats]:
        """The inputs of every layer, and the logits."""
        layers = [images]
        last = len(self._weights) - 2
        for place in range(0, len(self._weights), 2):
            out = layers[-1] @ self._weights[place] + self._weights[place + 1]
            layers.append(out if place == last else np.maximum(out, 0))
        return layers

    def snapshot(self) -> Any:
        return copy.deepcopy((self._step, self._weights, self._momentum))

    def restore(self, state: Any) -> None:
        self._step, self._weights, self._momentum = copy.deepcopy(state)

    def validation(self) -> float:
        return self._loss_on(0)

    def test(self) -> float:
        return self._loss_on(1)

    def _loss_on(self, part: int) -> float:
        images, labels = self._parts[part]
        with np.errstate(all="ignore"):
            logits = self._forward(images)[-1].astype(np.float64)
            logits -= logits.max(1, keepdims=True)
            right = logits[np.arange(len(labels)), labels]
            return float(np.mean(np.log(np.exp(logits).sum(1)) - right))


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


@lru_cache(maxsize=1)
def _digits() -> tuple[Floats, npt.NDArray[np.int64]]:
    """Images (1797, 64) in 0..1 and labels (1797,), in an order that is the same for all seeds."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    return (data.data[order] / 16.0).astype(np.float32), data.target[order].astype(np.int64)


def tasks(longer: int = 1) -> tuple[Task, ...]:
    """Both tasks, trained ``longer`` times as long."""
    gpt, digits = 600 * longer, 1000 * longer
    suffix = f"-{longer}x" if longer > 1 else ""
    return (
        Task(
            f"gpt{suffix}",
            gpt,
            3e-4,
            5e-2,
            lambda seed: _Gpt(Job(GPT_SETTINGS, seed, gpt, report_every=gpt)),
        ),
        Task(f"digits{suffix}", digits, 3e-3, 1.0, lambda seed: _NoisyDigits(seed)),
    )
