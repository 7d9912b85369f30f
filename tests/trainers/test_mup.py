"""muP in the GPT: the coordinate check, the table of multipliers, and that nothing else has changed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.gpt import GptTrainer
from trainers.optimizers.build import find
from trainers.optimizers.table import FAMILIES, LISTED, SQRT_RULE, Family

WIDTHS = (32, 64, 128, 256)
BASE = 32
SMALL: dict[str, Any] = {
    "depth": 2, "heads": 4, "context": 16, "batch_size": 8, "max_bytes": 50_000, "eval_batches": 1,
    "device": "cpu", "schedule": "constant", "warmup_fraction": 0.0, "clip": 0.0,
}  # fmt: skip
RATES = {"adamw": 0.01, "nadamw": 0.01, "lion": 0.003, "sgd": 0.3}


def trainer(steps: int = 4, seed: int = 0, **config: Any) -> GptTrainer:
    return GptTrainer(Job({**SMALL, **config}, seed=seed, max_step=steps, report_every=steps))


def activations(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    """What embedding, every attention, MLP and block, and the whole model put out."""
    found: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: found.__setitem__(name or "logits", out))
        for name, module in model.named_modules()
        if not name or name == "embedding" or name.split(".")[-1] in ("attention", "up", "down", "qkv")
    ]
    with torch.no_grad():
        model(tokens)
    for hook in hooks:
        hook.remove()
    return found


def slopes(mup: bool, optimizer: str) -> dict[str, float]:
    """By layer: the slope of log(size of a coordinate's change in four steps) against log(width)."""
    tokens = torch.randint(0, 128, (8, 16), generator=torch.Generator().manual_seed(0))
    sizes: dict[str, list[float]] = {}
    for width in WIDTHS:
        changes: dict[str, list[float]] = {}
        for seed in range(3):
            config = {"width": width, "mup_base_width": BASE if mup else 0}
            training = trainer(seed=seed, optimizer=optimizer, lr=RATES[optimizer], **config)
            before = activations(training.model, tokens)
            for _ in training.train(4):
                pass
            after = activations(training.model, tokens)
            for name in before:
                changes.setdefault(name, []).append(float((after[name] - before[name]).abs().mean()))
        for name, values in changes.items():
            sizes.setdefault(name, []).append(float(np.mean(values)))
    return {
        name: float(np.polyfit(np.log(WIDTHS), np.log(values), 1)[0]) for name, values in sizes.items()
    }
