"""Settings of the ``encoder`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.batch_sizes import BatchConfig
from trainers.labelled_text import TASKS
from trainers.settings import setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

METRICS = {
    "accuracy": "Share of the validation bytes (tagging) or windows (classification) labelled rightly.",
    "val_loss": "Cross entropy on the validation windows, in nats per label.",
    "train_loss": "Mean cross entropy of the training batches since the last report, in nats per label.",
    **COMMON_METRICS,
    "tokens_per_second": "Bytes trained per second since the trial's start, evaluation included.",
}


@dataclass(frozen=True)
class EncoderConfig(TrainingConfig, BatchConfig):
    """A bidirectional transformer on bytes, from scratch, that tags Python source or classifies text."""

    task: str = setting(
        "tagging",
        "tagging: the kind of token that each byte of Python source belongs to. "
        "classification: which folder a window of text is from.",
        choices=TASKS,
        fork=False,
    )
    data: str = setting(
        "",
        "tagging: a Python file, or a folder of them. classification: a folder with one subfolder of text "
        "files per class. Empty: Python's standard library, its packages as classes.",
        fork=False,
    )
    max_bytes: int = setting(
        200_000,
        "Bytes of text taken at most, no more than 16 KiB of a file.",
        low=10_000,
        high=10**10,
        fork=False,
    )
    width: int = setting(64, "Size of the residual stream.", low=4, high=16384, fork=False)
    depth: int = setting(2, "Transformer blocks.", low=1, high=256, fork=False)
    heads: int = setting(
        4, "Attention heads; width must be an even multiple of them.", low=1, high=256, fork=False
    )
    context: int = setting(64, "Bytes the model sees at once.", low=4, high=65536, fork=False)
    dropout: float = setting(0.0, "Share of activations dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(16, "Windows per step.", low=1, high=65536)
    eval_windows: int = setting(256, "Validation windows per report.", low=1, high=1_000_000, fork=False)

    def mistakes(self) -> list[str]:
        """Rules over several settings."""
        found = super().mistakes()
        if self.width % (2 * self.heads):
            found.append(
                f"width: must be an even multiple of heads ({self.heads}), not {self.width}: "
                "each head rotates pairs of its dimensions"
            )
        return found
