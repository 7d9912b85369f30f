"""Settings of the ``vision`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.batch_sizes import BatchConfig
from trainers.settings import setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

DIGITS_SIZE = 8

METRICS = {
    "accuracy": "Share of the validation images that are classified rightly.",
    "val_loss": "Cross entropy on the validation images, in nats per image.",
    "train_loss": "Mean cross entropy of the training batches since the last report.",
    **COMMON_METRICS,
    "weights": "Numbers that the net learns: how large it is.",
}


@dataclass(frozen=True)
class VisionConfig(TrainingConfig, BatchConfig):
    """A convolutional net or a perceptron on images: scikit-learn's digits, or a folder of yours."""

    data: str = setting(
        "",
        "Folder with one subfolder of images per class; a fifth of each validates. Empty: scikit-learn's "
        "handwritten digits.",
        fork=False,
    )
    size: int = setting(
        32,
        "Height and width that a folder's images are scaled to, in pixels. Digits are 8.",
        low=4,
        high=1024,
        fork=False,
    )
    gray: bool = setting(
        False, "Look at the brightness alone, not at colours. Digits are gray.", fork=False
    )
    model: str = setting(
        "conv", "conv: a convolutional net. mlp: fully connected.", choices=("conv", "mlp"), fork=False
    )
    width: int = setting(
        16,
        "conv: channels of the first stage; each stage has twice as many. mlp: units of each layer.",
        low=1,
        high=16384,
        fork=False,
    )
    depth: int = setting(
        2, "conv: stages, each of which halves the image. mlp: hidden layers.", low=1, high=16, fork=False
    )
    dropout: float = setting(0.0, "Share of features dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Images per step.", low=1, high=65536)
    label_noise: float = setting(
        0.0, "Share of training images whose label is replaced by a random one.", low=0.0, high=1.0
    )

    def mistakes(self) -> list[str]:
        """Rules over several settings."""
        found = super().mistakes()
        size = self.size if self.data else DIGITS_SIZE
        if self.model == "conv" and size < 2**self.depth:
            found.append(
                f"depth: images of {size} pixels can be halved at most {size.bit_length() - 1} times"
            )
        return found
