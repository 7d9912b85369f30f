"""Settings of the ``rl`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

METRICS = {
    "val_return": "Mean return of the validation episodes, played by the most likely actions; to be tuned.",
    "test_return": "The same over the test episodes: what a tuned policy is worth where nothing was tuned.",
    "train_loss": "Mean loss of policy and value since the last report.",
    **COMMON_METRICS,
}


@dataclass(frozen=True)
class RlConfig(TrainingConfig):
    """Actor-critic on a task of gymnasium. A step plays a few whole episodes and learns from them once."""

    env: str = setting(
        "CartPole-v1", "Task of gymnasium with numbers to observe and a choice of actions.", fork=False
    )
    width: int = setting(
        32, "Units of each hidden layer of policy and value.", low=1, high=65536, fork=False
    )
    depth: int = setting(1, "Hidden layers of policy and value.", low=0, high=64, fork=False)
    episodes: int = setting(8, "Episodes per step.", low=1, high=10_000)
    longest: int = setting(
        500, "Actions after which an episode ends at the latest.", low=1, high=10**6, fork=False
    )
    gamma: float = setting(
        0.99, "What a reward one action later is worth, as a share.", low=0.0, high=0.9999
    )
    value_weight: float = setting(
        0.5, "Weight of the value's loss beside the policy's.", low=0.0, high=100.0
    )
    entropy: float = setting(0.01, "Reward for a policy that stays undecided.", low=0.0, high=10.0)
    eval_episodes: int = setting(
        10, "Validation, and as many test, episodes per report.", low=1, high=1000, fork=False
    )

    def mistakes(self) -> list[str]:
        """Rules over several settings."""
        found = super().mistakes()
        if self.micro_batch:
            found.append("micro_batch: a step learns from whole episodes at once, which cannot be split")
        if self.precision == "bfloat16":
            found.append("precision: nets that play are small, and train in float32")
        return found
