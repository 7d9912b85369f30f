"""The tables that scikit-learn brings along, split and standardised. Nothing is downloaded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from sklearn import datasets

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

VALIDATION_SHARE = 0.2
_SEED = 0
"""All trials of all studies train and validate on the same rows."""


@dataclass(frozen=True)
class Table:
    """Rows to train on and rows to validate with. Inputs have mean 0 and deviation 1 over the former."""

    inputs: Floats
    """(rows, features)"""
    targets: Floats | Labels
    """(rows,): classes from 0, or numbers with mean 0 and deviation 1 over the training rows."""
    training: int
    """The first so many rows train, the others validate."""
    classes: int
    """0: the target is a number."""
    digest: str

    @property
    def outputs(self) -> int:
        """Numbers predicted per row: one logit per class, or the target."""
        return self.classes or 1


@lru_cache(maxsize=4)
def load(name: str) -> Table:
    """The table ``name`` of :data:`trainers.tabular_config.TABLES`, shuffled once."""
    if name == "friedman":
        inputs, targets = datasets.make_friedman1(n_samples=2000, noise=1.0, random_state=_SEED)
    else:
        inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(_SEED).permutation(len(targets))
    inputs, targets = np.asarray(inputs, np.float64)[order], np.asarray(targets)[order]
    training = round(len(targets) * (1 - VALIDATION_SHARE))
    is_number = name in ("diabetes", "friedman")
    inputs = _standardised(inputs, training)
    targets = _standardised(targets.astype(np.float64), training) if is_number else targets.astype(np.int64)
    return Table(
        inputs=inputs,
        targets=targets,
        training=training,
        classes=0 if is_number else int(targets.max()) + 1,
        digest=hashlib.sha256(inputs.tobytes() + targets.tobytes()).hexdigest(),
    )


def scores(outputs: Floats, table: Table) -> dict[str, float]:
    """What ``outputs`` (validation rows, outputs) are worth: ``val_loss``, and ``accuracy`` or ``r2``."""
    targets = table.targets[table.training :]
    found = {"val_loss": loss(outputs, targets)}
    if not table.classes:
        found["r2"] = 1.0 - found["val_loss"] / float(np.var(targets))
    elif np.isfinite(found["val_loss"]):
        found["accuracy"] = float(np.mean(outputs.argmax(axis=1) == targets))
    else:
        # argmax over NaN would still name a class: a model that diverged has no accuracy.
        found["accuracy"] = float("nan")
    return found


def loss(outputs: Floats, targets: Floats | Labels) -> float:
    """Mean cross entropy in nats of logits (rows, classes), or mean squared error of numbers (rows, 1)."""
    if targets.dtype != np.int64:
        return float(np.mean((outputs[:, 0] - targets) ** 2))
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float(np.mean(logs[np.arange(len(targets)), targets.astype(np.int64)]))


def _standardised(values: Floats, training: int) -> Floats:
    deviation = values[:training].std(axis=0)
    # A feature that is always the same says nothing: it becomes 0.
    scaled: Floats = (values - values[:training].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled
