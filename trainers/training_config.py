"""Settings of every trainer that trains a net by gradient descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.base import ParamValue
from trainers.optimizers.table import COMMON, LISTED
from trainers.schedules import ScheduleConfig
from trainers.settings import setting

COMMON_METRICS = {
    "lr": "Learning rate of the last step.",
    "peak_memory_mb": "Most memory the process has held, in MiB: on CUDA of the GPU, else of the machine.",
}
"""What every trainer of nets reports beside its own metrics."""


@dataclass(frozen=True)
class TrainingConfig(ScheduleConfig):
    """Optimizer, learning-rate schedule, gradient clipping, device."""

    optimizer: str = setting(
        "nadamw", "Optimizer; each has a learning rate of its own.", choices=tuple(LISTED), fork=False
    )
    lr: float | None = setting(
        None, "Peak learning rate. Not given: the optimizer's own.", low=0.0, high=1000.0
    )
    weight_decay: float | None = setting(
        None,
        "Decay of the weight matrices, decoupled where the optimizer can. Not given: the optimizer's own.",
        low=0.0,
        high=100.0,
    )
    beta1: float | None = setting(
        None, "Decay of the gradient's mean. Not given: the optimizer's own.", low=0.0, high=0.99999
    )
    beta2: float | None = setting(
        None,
        "Decay of the squared gradient's mean. Not given: the optimizer's own.",
        low=0.0,
        high=0.999999,
    )
    momentum: float | None = setting(
        None, "Momentum. Not given: the optimizer's own.", low=0.0, high=0.99999
    )
    eps: float | None = setting(
        None, "What keeps denominators from zero. Not given: the optimizer's own.", low=1e-30, high=1.0
    )
    sam: float = setting(
        0.0,
        "Sharpness-aware minimization: radius; each step takes two gradients. 0: none.",
        low=0.0,
        high=10.0,
    )
    lookahead: int = setting(
        0, "Lookahead: each so many steps the weights go half of the way back. 0: never.", low=0, high=10**6
    )
    average: str = setting(
        "none",
        "Which weights are evaluated: those trained, their moving average, or their average over the end.",
        choices=("none", "ema", "swa"),
    )
    ema_decay: float = setting(0.999, "Share that ema keeps per step.", low=0.0, high=0.999999)
    swa_start: float = setting(
        0.75, "Share of a full training after which swa begins to average.", low=0.0, high=1.0
    )
    clip_quantile: float = setting(
        1.0,
        "Each coordinate of the gradient is cut to this quantile of all coordinates' sizes. 1: none.",
        low=0.0,
        high=1.0,
    )
    clip: float = setting(1.0, "Largest norm of the gradient; longer ones are cut. 0: none.", low=0.0)
    micro_batch: int = setting(
        0,
        "Samples per forward pass; the gradients of a step's passes are added up. 0: all at once.",
        low=0,
        high=65536,
    )
    device: str = setting(
        "auto", "auto: CUDA if there is a GPU, else CPU.", choices=("auto", "cpu", "cuda")
    )
    precision: str = setting(
        "auto",
        "Arithmetic of the forward pass. auto: bfloat16 on CUDA, float32 on CPU.",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = setting(
        False, "Compile the model by torch.compile: slower to start, then faster. Needs a C++ compiler."
    )

    @classmethod
    def plain(cls, values: Mapping[str, ParamValue]) -> Mapping[str, ParamValue]:
        """``lr/sgd`` is ``lr`` while the optimizer is ``sgd``, and nothing while it is another."""
        optimizer = values.get("optimizer", cls.optimizer)
        found: dict[str, ParamValue] = {}
        own: dict[str, ParamValue] = {}
        for name, value in values.items():
            setting, _, only = name.partition("/")
            if setting not in ("lr", *COMMON) or only not in LISTED:
                found[name] = value
            elif only == optimizer:
                own[setting] = value
        return {**found, **own}

    def mistakes(self) -> list[str]:
        """What does not go together."""
        found = super().mistakes()
        if self.sam and not LISTED[self.optimizer].once:
            found.append(f"sam: does not go round {self.optimizer}, which evaluates the loss as it likes")
        return found

    @property
    def peak_lr(self) -> float:
        """The learning rate that is set, or the optimizer's own."""
        return LISTED[self.optimizer].lr if self.lr is None else self.lr

    @property
    def hyperparameters(self) -> dict[str, float]:
        """Of those with common names, what the optimizer uses and has been set; and its weight decay."""
        facts = LISTED[self.optimizer]
        given = {name: getattr(self, name) for name in COMMON if name in facts.uses}
        if "weight_decay" in facts.uses and given["weight_decay"] is None:
            given["weight_decay"] = facts.weight_decay
        return {name: value for name, value in given.items() if value is not None}
