"""What trainers of nets share: the loop, the learning rate, timing, reports, saving and loading."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers import checkpoint, optimizers, schedules
from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.randomness import Purpose, seed_torch
from trainers.settings import parse
from trainers.training_config import TrainingConfig


def pick_device(name: str) -> torch.device:
    """The device that ``auto``, ``cpu`` or ``cuda`` means here.

    On CUDA torch is held to deterministic kernels: resuming must be bit-exact.

    :raises InvalidConfigurationError: CUDA is asked for and there is none
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InvalidConfigurationError("device: 'cuda' is asked for, but torch finds no GPU here")
    if name == "cpu" or not available:
        return torch.device("cpu")
    # cuBLAS is deterministic only with a fixed workspace, and reads this when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    return torch.device("cuda")


class TorchTrainer(ABC):
    """A training by gradient descent; see :class:`trainers.base.Trainer`.

    A subclass calls :meth:`_start` at the end of its ``__init__``, and says what a step and an evaluation
    are.
    """

    def __init__(
        self, name: str, job: Job, config: TrainingConfig, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.job = job
        self.device = pick_device(config.device)
        self._name = name
        self._training = config
        self._clock = clock
        self._step = 0
        self._seconds = 0.0

    def _start(self, build: Callable[[], nn.Module], *, data: str) -> None:
        """Make the model, from weights that the seed decides, and its optimizer.

        :param data: digest of the training data; a checkpoint trained on other data is refused
        """
        self._identity = checkpoint.identity(self._name, self.job, asdict(self._training), data=data)
        seed_torch(self.job.seed, Purpose.WEIGHTS)
        self.model = build().to(self.device)
        self.optimizer = optimizers.build(self.model, self._training)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._loss_count = 0

    @abstractmethod
    def _backward(self, step: int) -> Tensor:
        """Add the gradient of step number ``step`` (from 0) to the parameters; return its mean loss."""

    @abstractmethod
    def _evaluate(self) -> dict[str, float]:
        """Validation metrics. The model is in evaluation mode and records no gradients."""

    def _tokens(self) -> int | None:
        """Tokens trained on so far, if the data is made of tokens."""
        return None

    @property
    def step(self) -> int:
        """Steps trained so far."""
        return self._step

    def train(self, until: int) -> Iterator[Measured]:
        """Train to step ``until``; see :class:`trainers.base.Trainer`."""
        self.model.train()
        while self._step < until:
            started = self._clock()
            self._train_step()
            metrics = self._measure() if self.job.measured_at(self._step) else None
            self._seconds += self._clock() - started
            if metrics is not None:
                yield Measured(self._step, self._with_costs(metrics), self._seconds, self._tokens())

    def save(self, folder: Path) -> None:
        """Write the whole training state into ``folder``."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
        }
        checkpoint.save(folder, self._identity, checkpoint.Position(self._step, self._seconds), state)

    def load(self, folder: Path) -> None:
        """Take up the state in ``folder``; raises :class:`trainers.checkpoint.CheckpointError`."""
        fork = type(self._training) if self.job.forked else None
        position = checkpoint.load(folder, self._identity, fork=fork)
        state: dict[str, Any] = checkpoint.load_state(folder, self.device)
        own = self._changed_groups(folder) if self.job.forked else []
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            if not self.job.forked:
                raise
            raise InvalidConfigurationError(
                f"the parent's checkpoint does not fit the changed configuration: {error}"
            ) from error
        for group, changed in zip(self.optimizer.param_groups, own, strict=False):
            group.update(changed)
        self._loss_sum = state["loss_sum"]
        self._loss_count = state["loss_count"]
        self._step, self._seconds = position.step, position.seconds

    def _changed_groups(self, folder: Path) -> list[dict[str, Any]]:
        """What this configuration sets in each parameter group otherwise than the saved one did.

        Loading an optimizer's state overwrites its hyperparameters with those saved. The rest of a group
        may be state (some optimizers keep theirs there): only what the configurations differ in is put
        back.
        """
        saved = parse(type(self._training), checkpoint.saved_config(folder))
        before = optimizers.build(self.model, saved)
        return [
            {name: new[name] for name in new if name != "params" and new[name] != old.get(name)}
            for new, old in zip(self.optimizer.param_groups, before.param_groups, strict=True)
        ]

    def _lr(self, step: int) -> float:
        """Learning rate of step number ``step`` (from 0)."""
        planned = self.job.planned_lr(step)
        if planned is not None:
            return planned
        config = self._training
        return config.lr * schedules.share(
            config.schedule,
            step,
            total=self.job.max_step,
            warmup_fraction=config.warmup_fraction,
            final_fraction=config.final_fraction,
        )

    def _train_step(self) -> None:
        seed_torch(self.job.seed, Purpose.DROPOUT, self._step)
        loss = self._backward(self._step)
        if self._training.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._training.clip)
        optimizers.set_lr(self.optimizer, self._lr(self._step))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._loss_sum += loss.detach()
        self._loss_count += 1
        self._step += 1

    def _measure(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            metrics = self._evaluate()
        self.model.train()
        # A sum and a float from the device: this also waits for the GPU, so that the clock is right.
        metrics["train_loss"] = float(self._loss_sum) / self._loss_count
        metrics["lr"] = self._lr(self._step - 1)
        self._loss_sum.zero_()
        self._loss_count = 0
        return metrics

    def _with_costs(self, metrics: dict[str, float]) -> dict[str, float]:
        tokens = self._tokens()
        if tokens is not None and self._seconds > 0:
            metrics["tokens_per_second"] = tokens / self._seconds
        if self.device.type == "cuda":
            metrics["peak_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        return metrics
