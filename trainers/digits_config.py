"""Settings of the ``digits`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import Config, setting

METRICS = {
    "accuracy": "Share of the validation digits that are classified rightly.",
    "val_loss": "Cross entropy on the validation digits, in nats per digit.",
    "train_loss": "Mean cross entropy of the training batches since the last report.",
    "lr": "Learning rate of the last step.",
}


@dataclass(frozen=True)
class DigitsConfig(Config):
    """A small convolutional net on scikit-learn's 8x8 handwritten digits; trains in seconds on one core."""

    channels: int = setting(
        16, "Channels of the first convolution; the second has twice as many.", low=1, high=1024
    )
    dropout: float = setting(0.0, "Share of features dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Digits per step.", low=1, high=1437)
    optimizer: str = setting("sgd", "Optimizer.", choices=("adamw", "sgd"))
    lr: float = setting(0.01, "Peak learning rate.", low=0.0, high=1000.0)
    momentum: float = setting(0.9, "Momentum of SGD.", low=0.0, high=0.99999)
    beta1: float = setting(0.9, "AdamW's decay of the gradient mean.", low=0.0, high=0.99999)
    beta2: float = setting(0.999, "AdamW's decay of the squared gradient mean.", low=0.0, high=0.999999)
    weight_decay: float = setting(
        0.0, "Decay of the weight matrices (decoupled for AdamW, L2 for SGD).", low=0.0, high=100.0
    )
    schedule: str = setting(
        "constant",
        "Shape of the learning rate after the warm-up.",
        choices=("constant", "linear", "cosine"),
    )
    warmup_fraction: float = setting(
        0.0, "Share of a full training in which the learning rate rises linearly.", low=0.0, high=1.0
    )
    final_fraction: float = setting(
        0.0, "Learning rate at the end of a full training, as a share of the peak.", low=0.0, high=1.0
    )
    clip: float = setting(0.0, "Largest norm of the gradient; longer ones are cut. 0: none.", low=0.0)
    label_noise: float = setting(
        0.0, "Share of training digits whose label is replaced by a random one.", low=0.0, high=1.0
    )
    device: str = setting("cpu", "auto: CUDA if there is a GPU, else CPU.", choices=("auto", "cpu", "cuda"))
