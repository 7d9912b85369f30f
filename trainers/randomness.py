"""Randomness as a pure function of the job's seed, its purpose and the step.

No generator lives longer than a step. A training resumed at any step therefore draws what the
uninterrupted one would have drawn, without any saved generator, and neither an evaluation nor a second
trainer in the same process can disturb it.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What randomness is drawn for: each has its own stream. The numbers must never change."""

    WEIGHTS = 0
    DATA = 1
    DROPOUT = 2
    LABELS = 3
    OPTIMIZER = 10


def generator(seed: int, purpose: Purpose, step: int = 0) -> np.random.Generator:
    """A fresh generator for one purpose at one step."""
    return np.random.default_rng([seed, purpose, step])


def seed_torch(seed: int, purpose: Purpose, step: int = 0) -> None:
    """Seed torch's global generators (CPU and CUDA) for one purpose at one step."""
    state = np.random.SeedSequence([seed, purpose, step]).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))
