"""How a step is made: the optimizer that a configuration names, and what may be put round any optimizer.

Round any optimizer go settings of their own, since each may be searched with each:

- ``sam`` (Foret et al. 2021, arXiv:2010.01412): the gradient is taken where the loss is highest nearby,
  at ``w + sam g / |g|``;
- ``lookahead`` (Zhang et al. 2019, arXiv:1907.08610): each so many steps the weights go back half of the
  way to where they were at the last such step;
- ``average``: the weights that are evaluated are a moving average (``ema``), or the plain average over the
  last part of a training (``swa``, Izmailov et al. 2018, arXiv:1803.05407).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.checkpoint import CheckpointError
from trainers.optimizers.build import build
from trainers.optimizers.own import clip_coordinates
from trainers.optimizers.table import LISTED, Needs
from trainers.randomness import Purpose, generator, seed_torch
from trainers.training_config import TrainingConfig

LOOKAHEAD_SHARE = 0.5
"""How far the slow weights go towards the fast ones."""

_SET = ("betas", "momentum", "eps", "weight_decay")
"""What a group of a torch optimizer may hold that a configuration decides. The rest is its state."""


class Optimization:
    """Changes the weights of a model, step by step; its whole state goes through :meth:`state`."""

    def __init__(
        self,
        model: nn.Module,
        config: TrainingConfig,
        *,
        seed: int,
        total: int,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """
        :param seed: decides what an optimizer draws, with the number of the step
        :param total: steps of a full training
        :param rates: see :func:`trainers.optimizers.build.build`
        :raises InvalidConfigurationError: the optimizer's package is not installed
        """
        self.needs = LISTED[config.optimizer].needs
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._model = model
        self._config = config
        self._seed = seed
        self._average_from = round(config.swa_start * total) if config.average == "swa" else 0
        self.parts = build(
            model,
            config.optimizer,
            config.peak_lr or LISTED[config.optimizer].lr,
            config.hyperparameters,
            total,
            rates or {},
        )
        self._settings = [
            [{name: group[name] for name in _SET if name in group} for group in part.optimizer.param_groups]
            for part in self.parts
        ]
        self._slow = self._copy() if config.lookahead else []
        self._average: list[Tensor] = []
        self._averaged = 0

    def step(self, step: int, lr: float, gradient: Callable[[], Tensor]) -> Tensor:
        """Make step number ``step`` (from 0).

        :param gradient: compute the gradient at the weights as they stand (for an optimizer that needs
            none, only the loss), and return the mean loss; called as often as the optimizer needs it
        :return: mean loss of the step's batch
        """
        for part in self.parts:
            part.set_lr(lr)

        def clipped() -> Tensor:
            self._model.zero_grad(set_to_none=True)
            loss = gradient()
            self._clip()
            return loss

        # Many optimizers divide by the rate, and a rate of zero changes nothing.
        loss = self._step(step, clipped) if lr else gradient()
        # Where second derivatives are taken, gradients hold the graph that holds them.
        self._model.zero_grad(set_to_none=True)
        if self._config.lookahead and (step + 1) % self._config.lookahead == 0:
            self._look_ahead()
        if self._config.average != "none" and step >= self._average_from:
            self._update_average()
        return loss

    def _step(self, step: int, gradient: Callable[[], Tensor]) -> Tensor:
        if self.needs in (Needs.ONE_GROUP, Needs.CLOSURE, Needs.NO_GRADIENT):
            self._seed_draws(step)
            (part,) = self.parts
            losses: list[Tensor] = []

            def closure() -> Tensor:
                # Some call it where gradients are switched off; one that needs none leaves them so.
                with torch.set_grad_enabled(self.needs is not Needs.NO_GRADIENT):
                    losses.append(gradient())
                return losses[-1]

            step_with: Any = part.optimizer.step  # torch types a closure that returns a float
            step_with(closure)
            return losses[0]
        loss = gradient()
        if self._config.sam:
            here = self._climb()
            gradient()
            self._restore(here)
        self._seed_draws(step)
        for part in self.parts:
            part.optimizer.step()
        return loss

    def _seed_draws(self, step: int) -> None:
        """What optimizers draw depends on seed and step alone, whichever generator they use."""
        seed_torch(self._seed, Purpose.OPTIMIZER, step)
        if self.needs is Needs.NUMPY:
            np.random.seed(int(generator(self._seed, Purpose.OPTIMIZER, step).integers(2**32)))

    def _clip(self) -> None:
        if self._config.clip_quantile < 1:
            clip_coordinates(self._weights, self._config.clip_quantile)
        if self._config.clip:
            nn.utils.clip_grad_norm_(self._weights, self._config.clip)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Within it, the model has the weights that are to be evaluated; after it, exactly those of
        before."""
        switching: list[Any] = [part.optimizer for part in self.parts if hasattr(part.optimizer, "eval")]
        if not switching and not self._average:
            yield
            return
        here = self._copy()
        for optimizer in switching:
            if optimizer.state:
                optimizer.eval()
        if self._average:
            self._restore(self._average)
        try:
            yield
        finally:
            for optimizer in switching:
                if optimizer.state:
                    optimizer.train()
            self._restore(here)

    def state(self) -> dict[str, Any]:
        """All that training goes on from, as tensors and plain values."""
        return {
            "parts": [part.optimizer.state_dict() for part in self.parts],
            "slow": self._slow,
            "average": self._average,
            "averaged": self._averaged,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave, with the hyperparameters of this configuration. The model has
        taken up its weights before.

        :raises CheckpointError: it is the state of another optimizer, or of another one round it
        """
        try:
            for part, saved in zip(self.parts, state["parts"], strict=True):
                part.optimizer.load_state_dict(saved)
        except (ValueError, KeyError) as error:
            raise CheckpointError(
                f"the saved state is not one of {self._config.optimizer}: {error}"
            ) from error
        self._set_hyperparameters()
        if self._config.lookahead:
            self._slow = state["slow"] or self._copy()
        self._average = state["average"] if self._config.average != "none" else []
        self._averaged = state["averaged"]

    def _set_hyperparameters(self) -> None:
        """What a loaded state says of hyperparameters gives way to the configuration."""
        for part, groups in zip(self.parts, self._settings, strict=True):
            for group, settings in zip(part.optimizer.param_groups, groups, strict=True):
                group.update(settings)

    @torch.no_grad()
    def _climb(self) -> list[Tensor]:
        """Go where the loss is highest nearby, by the gradient; return where the weights were."""
        here = self._copy()
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        for weight in self._weights:
            if weight.grad is not None:
                weight.add_(weight.grad * (self._config.sam / (norm + 1e-12)))
        return here

    @torch.no_grad()
    def _look_ahead(self) -> None:
        for slow, weight in zip(self._slow, self._weights, strict=True):
            slow.lerp_(weight, LOOKAHEAD_SHARE)
            weight.copy_(slow)

    @torch.no_grad()
    def _update_average(self) -> None:
        if not self._average:
            self._average = self._copy()
            self._averaged = 1
            return
        self._averaged += 1
        ema = self._config.average == "ema"
        # A young moving average would be all beginning: it forgets faster at first.
        share = max(1 - self._config.ema_decay, 1 / self._averaged) if ema else 1 / self._averaged
        for average, weight in zip(self._average, self._weights, strict=True):
            average.lerp_(weight, share)

    def _copy(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def _restore(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)
