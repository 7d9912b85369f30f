"""Settings of the ``digits`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import setting
from trainers.training_config import TrainingConfig

TRAINING_DIGITS = 1437
"""Digits trained on: four fifths of scikit-learn's 1,797."""

METRICS = {
    "accuracy": "Share of the validation digits that are classified rightly.",
    "val_loss": "Cross entropy on the validation digits, in nats per digit.",
    "train_loss": "Mean cross entropy of the training batches since the last report.",
    "lr": "Learning rate of the last step.",
    "weights": "Numbers that the net learns: how large it is.",
}


@dataclass(frozen=True)
class DigitsConfig(TrainingConfig):
    """A small convolutional net on scikit-learn's 8x8 handwritten digits; trains in seconds on one core."""

    channels: int = setting(
        16, "Channels of the first convolution; the second has twice as many.", low=1, high=1024, fork=False
    )
    dropout: float = setting(0.0, "Share of features dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Digits per step.", low=1, high=TRAINING_DIGITS)
    label_noise: float = setting(
        0.0, "Share of training digits whose label is replaced by a random one.", low=0.0, high=1.0
    )
