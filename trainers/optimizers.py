"""Optimizers by name."""

from __future__ import annotations

from torch import nn, optim

from trainers.training_config import TrainingConfig


def build(model: nn.Module, config: TrainingConfig) -> optim.Optimizer:
    """The optimizer that ``config`` names, over all parameters of ``model``.

    Only matrices decay: gains and biases have no scale that ought to shrink. The learning rate is set
    before each step by :func:`set_lr`.

    :raises ValueError: an unknown optimizer
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)
    if config.optimizer == "sgd":
        return optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    raise ValueError(f"no optimizer {config.optimizer!r}; there are: adamw, sgd")


def set_lr(optimizer: optim.Optimizer, lr: float) -> None:
    """Make the next step with this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
