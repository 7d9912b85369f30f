"""Settings of every trainer that trains a net by gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import Config, setting


@dataclass(frozen=True)
class TrainingConfig(Config):
    """Optimizer, learning-rate schedule, gradient clipping, device."""

    optimizer: str = setting("adamw", "Optimizer.", choices=("adamw", "sgd"), fork=False)
    lr: float = setting(1e-3, "Peak learning rate.", low=0.0, high=1000.0)
    weight_decay: float = setting(
        0.1, "Decay of the weight matrices (decoupled for AdamW, L2 for SGD).", low=0.0, high=100.0
    )
    beta1: float = setting(0.9, "AdamW's decay of the gradient mean.", low=0.0, high=0.99999)
    beta2: float = setting(0.95, "AdamW's decay of the squared gradient mean.", low=0.0, high=0.999999)
    momentum: float = setting(0.9, "Momentum of SGD.", low=0.0, high=0.99999)
    schedule: str = setting(
        "cosine", "Shape of the learning rate after the warm-up.", choices=("constant", "linear", "cosine")
    )
    warmup_fraction: float = setting(
        0.1, "Share of a full training in which the learning rate rises linearly.", low=0.0, high=1.0
    )
    final_fraction: float = setting(
        0.0, "Learning rate at the end of a full training, as a share of the peak.", low=0.0, high=1.0
    )
    clip: float = setting(1.0, "Largest norm of the gradient; longer ones are cut. 0: none.", low=0.0)
    device: str = setting(
        "auto", "auto: CUDA if there is a GPU, else CPU.", choices=("auto", "cpu", "cuda")
    )
