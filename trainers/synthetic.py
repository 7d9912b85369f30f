"""Learning curves made by a formula: instant, noisy, with a known optimum. For tests and demonstrations.

The mean loss after ``t`` steps is a power law that falls from :data:`START` to an asymptote::

    loss(t) = a + (START - a) * (1 + t / tau) ** -decay
    a       = floor + 0.25 * log10(lr / best_lr(width))**2 + 0.05 * log2(width / 64)**2
                    + 2 * (dropout - 0.1)**2 + sgd * (0.1 + (momentum - 0.9)**2)
    tau     = 4 * max(1, best_lr(width) / lr) ** 0.5

``best_lr(width) = 0.01 * sqrt(64 / width)``: a wider net wants a smaller learning rate, and one that is
too small is also slow, so that curves cross. The optimum is ``optimizer=adamw, width=64, lr=0.01,
dropout=0.1``, whose asymptote is ``floor``. A learning rate above 1 diverges after :data:`DIVERGES_AFTER`
steps.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from trainers import checkpoint
from trainers.base import Job, Measured
from trainers.settings import Config, parse, setting

START = 5.0
"""Loss before training."""
DIVERGES_AFTER = 5
"""Steps that a training with a far too large learning rate survives."""

_LOWEST_LR = 1e-12
"""What a schedule's rate of 0 counts as: the formula takes its logarithm."""

METRICS = {
    "loss": "Mean loss by the formula plus noise.",
    "accuracy": "exp(-loss): a metric to be maximized.",
}


@dataclass(frozen=True)
class SyntheticConfig(Config):
    """Noisy power-law learning curves with a known optimum; trains nothing."""

    lr: float = setting(0.001, "Best at 0.01 for width 64; above 1 it diverges.", low=1e-12, high=1e6)
    width: int = setting(
        32, "Best at 64; a wider net wants a smaller lr.", low=1, high=1_000_000, fork=False
    )
    dropout: float = setting(0.0, "Best at 0.1.", low=0.0, high=1.0)
    optimizer: str = setting("adamw", "sgd ends 0.1 higher.", choices=("adamw", "sgd"), fork=False)
    momentum: float = setting(0.9, "Matters with sgd only; best at 0.9.", low=0.0, high=1.0)
    floor: float = setting(1.0, "Asymptote of the best configuration.", low=-4.0, high=4.0)
    decay: float = setting(0.7, "Exponent of the power law.", low=0.01, high=10.0)
    noise: float = setting(0.01, "Standard deviation of the noise of each report.", low=0.0, high=10.0)
    seconds_per_step: float = setting(0.0, "Sleep per step.", low=0.0, high=3600.0)
    fail: str = setting(
        "none", "A failure planted at fail_at.", choices=("none", "crash", "oom", "hang", "diverge")
    )
    fail_at: int = setting(1, "Step that ends in the planted failure.", low=1)


def mean_loss(config: SyntheticConfig, step: int) -> float:
    """Loss after ``step`` steps without noise; NaN once it has diverged."""
    diverged_at = DIVERGES_AFTER if config.lr > 1 else math.inf
    if config.fail == "diverge":
        diverged_at = min(diverged_at, config.fail_at)
    if step >= diverged_at:
        return math.nan
    best_lr = 0.01 * math.sqrt(64 / config.width)
    asymptote = (
        config.floor
        + 0.25 * math.log10(config.lr / best_lr) ** 2
        + 0.05 * math.log2(config.width / 64) ** 2
        + 2 * (config.dropout - 0.1) ** 2
    )
    if config.optimizer == "sgd":
        asymptote += 0.1 + (config.momentum - 0.9) ** 2
    tau = 4 * math.sqrt(max(1.0, best_lr / config.lr))
    return float(asymptote + (START - asymptote) * (1 + step / tau) ** -config.decay)


class SyntheticTrainer:
    """Walks along the formula's curve. Its whole state is the step (and the seconds spent).

    What a fork or a schedule changes holds at once for the whole formula: the curve jumps to that of the
    configuration.
    """

    def __init__(
        self,
        job: Job,
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.config = parse(SyntheticConfig, job.config)
        self._identity = checkpoint.identity("synthetic", job, asdict(self.config))
        self._job = job
        self._clock = clock
        self._sleep = sleep
        self._step = 0
        self._seconds = 0.0
        # Trials of one study share a seed: the configuration is mixed in, so that their noise differs.
        self._noise_key = zlib.crc32(repr(self.config).encode())

    @property
    def step(self) -> int:
        """Steps trained so far."""
        return self._step

    def train(self, until: int) -> Iterator[Measured]:
        """Walk to step ``until``; see :class:`trainers.base.Trainer`.

        :raises RuntimeError, MemoryError: the planted failures ``crash`` and ``oom``
        """
        while self._step < until:
            started = self._clock()
            if self.config.seconds_per_step:
                self._sleep(self.config.seconds_per_step)
            self._fail_if_planted(self._step + 1)
            self._step += 1
            self._seconds += self._clock() - started
            if self._job.measured_at(self._step):
                loss = self._loss()
                yield Measured(self._step, {"loss": loss, "accuracy": math.exp(-loss)}, self._seconds)

    def save(self, folder: Path) -> None:
        """Write the state into ``folder``."""
        checkpoint.save(folder, self._identity, checkpoint.Position(self._step, self._seconds))

    def load(self, folder: Path) -> None:
        """Take up the state in ``folder``; raises :class:`trainers.checkpoint.CheckpointError`."""
        fork = SyntheticConfig if self._job.forked else None
        position = checkpoint.load(folder, self._identity, fork=fork)
        self._step, self._seconds = position.step, position.seconds

    def _loss(self) -> float:
        noise = np.random.default_rng([self._job.seed, self._noise_key, self._step]).standard_normal()
        lr = self._job.planned_lr(self._step - 1)
        config = self.config if lr is None else replace(self.config, lr=max(lr, _LOWEST_LR))
        return mean_loss(config, self._step) + self.config.noise * float(noise)

    def _fail_if_planted(self, step: int) -> None:
        if step != self.config.fail_at:
            return
        if self.config.fail == "crash":
            raise RuntimeError(f"planted crash at step {step}")
        if self.config.fail == "oom":
            raise MemoryError(f"planted out of memory at step {step}")
        while self.config.fail == "hang":
            self._sleep(60.0)
