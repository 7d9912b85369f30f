"""The ``rl`` trainer: a policy for a task of gymnasium, by the gradient of its return.

Advantage actor-critic with whole episodes (Williams 1992, Machine Learning 8; Mnih et al. 2016,
arXiv:1602.01783). With the return from action t on ``G_t = sum_k gamma^k r_(t+k)``, scaled by
``1 - gamma``, the value ``V`` and the normed advantage ``A_t = (G_t - V_t - mean) / deviation`` over the
step's actions, the loss is the mean of::

    -A_t log p(a_t) + value_weight (G_t - V_t)^2 - entropy H(p)

Episodes begin and end within a step, and their seeds are functions of (seed, step): no state of the task
has to be saved. Seeds of training, validation and test episodes are never the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainers.base import InvalidConfigurationError, Job
from trainers.randomness import Purpose, generator
from trainers.rl_config import RlConfig
from trainers.settings import parse
from trainers.tabular import mlp
from trainers.torch_trainer import TorchTrainer

if TYPE_CHECKING:
    import gymnasium
    from gymnasium.spaces import Discrete

TRAINING_SEEDS = 2**30
"""Episodes to train on have seeds below this one."""
VALIDATION_SEED, TEST_SEED = TRAINING_SEEDS, TRAINING_SEEDS + 2**20
"""The first seed of the validation episodes, and of the test episodes: the same in all trials."""

Choice = Callable[[Tensor], npt.NDArray[np.int64]]
"""Logits (B, actions) -> actions (B,)."""


@dataclass(frozen=True)
class Episodes:
    """What happened in some episodes, action by action, those of an episode in order."""

    observed: Tensor
    """(actions, numbers): what was seen before each."""
    actions: Tensor
    """(actions,)"""
    returns: Tensor
    """(actions,): the discounted rewards from there on."""
    totals: list[float]
    """The whole, undiscounted return of each episode."""


@dataclass(frozen=True)
class Experience:
    """What a step learns from, action by action: shapes as in :class:`Episodes`."""

    step: int
    observed: Tensor
    actions: Tensor
    returns: Tensor
    """Scaled by ``1 - gamma``."""
    advantages: Tensor


class RlTrainer(TorchTrainer):
    """Trains an :class:`ActorCritic`."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = config = parse(RlConfig, job.config)
        super().__init__("rl", job, config, clock=clock)
        self._envs = [make_env(config.env)]
        self._envs += [make_env(config.env) for _ in range(max(config.episodes, config.eval_episodes) - 1)]
        self._experience: Experience | None = None
        numbers, actions = _sizes(self._envs[0], config.env)
        self._first_action = int(actions.start)
        self._start(lambda: ActorCritic(config, numbers, int(actions.n)), data=f"gymnasium {config.env}")

    def _backward(self, step: int) -> Tensor:
        if self._experience is None or self._experience.step != step:
            # Once in a step, by the weights at its beginning: an optimizer may ask for the gradient again.
            self._experience = self._gather(step)
        places = torch.arange(len(self._experience.actions), device=self.device)
        return self._accumulate(places, self._loss)

    def _gather(self, step: int) -> Experience:
        draw = generator(self.job.seed, Purpose.DATA, step)
        seeds = draw.integers(0, TRAINING_SEEDS, self.config.episodes).tolist()
        played = self._play(seeds, lambda logits: sample(logits, draw))
        returns = played.returns * (1.0 - self.config.gamma)
        with torch.no_grad():
            advantages = returns - self.model(played.observed)[1]
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-8)
        return Experience(step, played.observed, played.actions, returns, advantages)

    def _loss(self, places: Tensor) -> Tensor:
        """Mean loss of policy and value over the step's actions with the indices ``places``."""
        assert self._experience is not None
        known = self._experience
        logits, values = self.model(known.observed[places])
        logs = torch.log_softmax(logits.float(), -1)
        chosen = logs.gather(1, known.actions[places, None])[:, 0]
        entropy = -(logs.exp() * logs).sum(1)
        loss: Tensor = (
            -(known.advantages[places] * chosen).mean()
            + self.config.value_weight * (known.returns[places] - values.float()).square().mean()
            - self.config.entropy * entropy.mean()
        )
        return loss

    def _evaluate(self) -> dict[str, float]:
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            # A net that diverged still takes some action, which is worth nothing.
            return {"val_return": float("nan"), "test_return": float("nan")}
        found = {}
        for name, first in (("val_return", VALIDATION_SEED), ("test_return", TEST_SEED)):
            seeds = range(first, first + self.config.eval_episodes)
            played = self._play(list(seeds), lambda logits: logits.argmax(1).cpu().numpy())
            found[name] = float(np.mean(played.totals))
        return found

    def _play(self, seeds: list[int], choose: Choice) -> Episodes:
        """One episode per seed, all at the same time, by the present policy."""
        envs = self._envs[: len(seeds)]
        seen = [_numbers(env.reset(seed=seed)[0]) for env, seed in zip(envs, seeds, strict=True)]
        observed: list[list[npt.NDArray[np.float32]]] = [[] for _ in seeds]
        actions: list[list[int]] = [[] for _ in seeds]
        rewards: list[list[float]] = [[] for _ in seeds]
        playing = list(range(len(seeds)))
        while playing:
            batch = torch.from_numpy(np.stack([seen[at] for at in playing])).to(self.device)
            with torch.no_grad():
                chosen = choose(self.model(batch)[0])
            still = []
            for at, action in zip(playing, chosen.tolist(), strict=True):
                observed[at].append(seen[at])
                actions[at].append(action)
                seen_next, reward, ended, cut, _ = envs[at].step(self._first_action + action)
                seen[at] = _numbers(seen_next)
                rewards[at].append(float(reward))
                if not (ended or cut or len(rewards[at]) >= self.config.longest):
                    still.append(at)
            playing = still
        returns = np.concatenate([discounted(each, self.config.gamma) for each in rewards])
        return Episodes(
            observed=torch.from_numpy(np.concatenate([np.stack(each) for each in observed])).to(
                self.device
            ),
            actions=torch.tensor([action for each in actions for action in each], device=self.device),
            returns=torch.from_numpy(returns.astype(np.float32)).to(self.device),
            totals=[sum(each) for each in rewards],
        )


class ActorCritic(nn.Module):
    """Observations (B, numbers) -> logits of the actions (B, actions) and values (B,)."""

    def __init__(self, config: RlConfig, numbers: int, actions: int) -> None:
        super().__init__()
        self.policy = mlp(numbers, actions, width=config.width, depth=config.depth, dropout=0.0)
        self.value = mlp(numbers, 1, width=config.width, depth=config.depth, dropout=0.0)

    def forward(self, observed: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy(observed), self.value(observed)[:, 0]


def make_env(name: str) -> gymnasium.Env[Any, Any]:
    """The task of this name.

    :raises InvalidConfigurationError: gymnasium is missing, does not know the task, or misses what it needs
    """
    try:
        import gymnasium
    except ImportError as error:
        raise InvalidConfigurationError(
            "the rl trainer needs the package gymnasium beside the worker: pip install gymnasium"
        ) from error
    if ":" in name:
        # gymnasium would import the module before the colon, whatever that does.
        raise InvalidConfigurationError(
            f"env: {name!r} names a module; only gymnasium's own tasks are made"
        )
    try:
        return gymnasium.make(name)
    except gymnasium.error.Error as error:
        raise InvalidConfigurationError(f"env: gymnasium cannot make {name!r}: {error}") from error


def _sizes(env: gymnasium.Env[Any, Any], name: str) -> tuple[int, Discrete]:
    """How many numbers are observed, and the actions to choose from.

    :raises InvalidConfigurationError: observations or actions are of another kind
    """
    from gymnasium.spaces import Box, Discrete

    if not isinstance(env.observation_space, Box):
        raise InvalidConfigurationError(
            f"env: in {name} no numbers are observed, but {env.observation_space}; this trainer needs a Box"
        )
    if not isinstance(env.action_space, Discrete):
        raise InvalidConfigurationError(
            f"env: {name} has no choice of actions, but {env.action_space}; this trainer needs a Discrete"
        )
    return int(np.prod(env.observation_space.shape)), env.action_space


def sample(logits: Tensor, draw: np.random.Generator) -> npt.NDArray[np.int64]:
    """Actions (B,) drawn by the policy's probabilities."""
    edges = torch.softmax(logits.double(), -1).cumsum(-1).cpu().numpy()
    # The last edge may be a little less than 1.
    actions: npt.NDArray[np.int64] = (draw.random((len(edges), 1)) > edges[:, :-1]).sum(1)
    return actions


def discounted(rewards: list[float], gamma: float) -> npt.NDArray[np.float64]:
    """``G_t = r_t + gamma G_(t+1)`` for each t."""
    found = np.empty(len(rewards))
    later = 0.0
    for at in reversed(range(len(rewards))):
        found[at] = later = rewards[at] + gamma * later
    return found


def _numbers(observation: Any) -> npt.NDArray[np.float32]:
    return np.asarray(observation, dtype=np.float32).reshape(-1)
