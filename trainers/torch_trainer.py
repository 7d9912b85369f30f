"""What trainers of nets share: the loop, the learning rate, timing, reports, saving and loading."""

from __future__ import annotations

import os
import resource
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainers import checkpoint, schedules
from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.optimizers.optimization import Optimization
from trainers.optimizers.table import Needs
from trainers.randomness import Purpose, seed_torch
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


def check_compiler() -> None:
    """``torch.compile`` writes C++ and builds it.

    :raises InvalidConfigurationError: there is no compiler
    """
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
    if not any(shutil.which(name) for name in wanted):
        raise InvalidConfigurationError(
            f"compile: torch.compile needs a C++ compiler, and there is no {' or '.join(wanted)} here; "
            "install one, or say compile: false"
        )


class TorchTrainer(ABC):
    """A training by gradient descent; see :class:`trainers.base.Trainer`.

    A subclass calls :meth:`_start` at the end of its ``__init__``, and says what a step (:meth:`_backward`)
    and an evaluation (:meth:`_evaluate`) are. Autocast, gradient accumulation and what an optimizer needs
    beyond the gradient (a second pass, second derivatives) are taken care of here.
    """

    def __init__(
        self, name: str, job: Job, config: TrainingConfig, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.job = job
        self.device = pick_device(config.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        bfloat16 = {"auto": self.device.type == "cuda", "bfloat16": True, "float32": False}
        self._bfloat16 = bfloat16[config.precision]
        self._name = name
        self._total = job.max_step
        """Updates of a full training. Each of its steps makes as many as that takes: one, if a subclass
        sets no other number (of at least ``max_step``)."""
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
        if self._training.compile:
            check_compiler()
            self.model.compile()  # in place: the names of its weights stay
        self.optimizer = Optimization(
            self.model,
            self._training,
            seed=self.job.seed,
            total=self._total,
            rates=self._rates(),
        )
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self._loss_count = 0

    def _updates(self, steps: int) -> int:
        """Updates in the first ``steps`` steps."""
        return steps * self._total // self.job.max_step

    @abstractmethod
    def _backward(self, step: int) -> Tensor:
        """Add the gradient of update number ``step`` (from 0) to the parameters; return its mean loss.

        Called several times for one step by optimizers that need it; each time it does the same. Most end
        with ``return self._accumulate(batch, loss)``; one whose batch cannot be split calls
        :meth:`_differentiate`.
        """

    @abstractmethod
    def _evaluate(self) -> dict[str, float]:
        """Validation metrics. The model is in evaluation mode and records no gradients."""

    def _accumulate(self, batch: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        """Add the gradient of the mean loss of ``batch`` to the parameters, ``micro_batch`` samples at a
        time.

        :param batch: samples (or their indices) along the first dimension
        :param loss: mean loss over the samples it is given
        :return: mean loss over the batch, without a graph
        """
        total = torch.zeros((), device=self.device)
        for part in torch.split(batch, self._training.micro_batch or len(batch)):
            with self._autocast():
                share = loss(part) * (len(part) / len(batch))
            self._differentiate(share)
            total += share.detach()
        return total

    def _differentiate(self, loss: Tensor) -> None:
        """Add the gradient of ``loss`` to the parameters, as the optimizer needs it."""
        if self.optimizer.needs is not Needs.NO_GRADIENT:
            second = self.optimizer.needs is Needs.SECOND_DERIVATIVES
            loss.backward(create_graph=second)  # type: ignore[no-untyped-call]

    def _rates(self) -> Mapping[str, float]:
        """By the names of the model's parameters: multiples of the learning rate, where they are not 1."""
        return {}

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
            "optimizer": self.optimizer.state(),
            "loss_sum": self._loss_sum,
            "loss_count": self._loss_count,
        }
        checkpoint.save(folder, self._identity, checkpoint.Position(self._step, self._seconds), state)

    def load(self, folder: Path) -> None:
        """Take up the state in ``folder``; raises :class:`trainers.checkpoint.CheckpointError`."""
        fork = type(self._training) if self.job.forked else None
        position = checkpoint.load(folder, self._identity, fork=fork)
        state: dict[str, Any] = checkpoint.load_state(folder, self.device)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            if not self.job.forked:
                raise
            raise InvalidConfigurationError(
                f"the parent's checkpoint does not fit the changed configuration: {error}"
            ) from error
        self._loss_sum = state["loss_sum"]
        self._loss_count = state["loss_count"]
        self._step, self._seconds = position.step, position.seconds

    def _lr(self, step: int) -> float:
        """Learning rate of update number ``step`` (from 0)."""
        planned = self.job.planned_lr(step * self.job.max_step / self._total)
        if planned is not None:
            return planned
        config = self._training
        return config.peak_lr * schedules.share(config, step, self._total)

    def _train_step(self) -> None:
        for update in range(self._updates(self._step), self._updates(self._step + 1)):
            loss = self.optimizer.step(update, self._lr(update), partial(self._gradient, update))
            self._loss_sum += loss.detach()
            self._loss_count += 1
        self._step += 1

    def _gradient(self, step: int) -> Tensor:
        """Add the gradient of update number ``step``, the same at each call, and return the loss."""
        seed_torch(self.job.seed, Purpose.DROPOUT, step)
        return self._backward(step)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bfloat16)

    def _measure(self) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad(), self._autocast(), self.optimizer.evaluated():
            metrics = self._evaluate()
        self.model.train()
        # A sum and a float from the device: this also waits for the GPU, so that the clock is right.
        metrics["train_loss"] = float(self._loss_sum) / self._loss_count
        metrics["lr"] = self._lr(self._updates(self._step) - 1)
        self._loss_sum.zero_()
        self._loss_count = 0
        return metrics

    def _with_costs(self, metrics: dict[str, float]) -> dict[str, float]:
        tokens = self._tokens()
        if tokens is not None and self._seconds > 0:
            metrics["tokens_per_second"] = tokens / self._seconds
        if self.device.type == "cuda":
            metrics["peak_memory_mb"] = torch.cuda.max_memory_allocated(self.device) / 2**20
        else:
            metrics["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        return metrics
