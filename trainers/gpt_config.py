"""Settings of the ``gpt`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.batch_sizes import BatchConfig
from trainers.optimizers.table import FAMILIES
from trainers.settings import setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

METRICS = {
    "val_loss": "Cross entropy on the validation windows, in nats per byte.",
    "train_loss": "Mean cross entropy of the training batches since the last report, in nats per byte.",
    **COMMON_METRICS,
    "tokens_per_second": "Bytes trained per second since the trial's start, evaluation included.",
    "parameters": "Numbers that the model learns (N of a scaling law), the embedding's included.",
    "non_embedding_parameters": "The same without the embedding's, which are the output's, too.",
    "tokens": "Bytes trained on so far (D of a scaling law), each as often as it was seen.",
}


@dataclass(frozen=True)
class GptConfig(TrainingConfig, BatchConfig):
    """A decoder-only transformer on bytes, trained on text found on this machine."""

    width: int = setting(128, "Size of the residual stream.", low=4, high=16384, fork=False)
    depth: int = setting(4, "Transformer blocks.", low=1, high=256, fork=False)
    heads: int = setting(
        4, "Attention heads; width must be an even multiple of them.", low=1, high=256, fork=False
    )
    mup_base_width: int = setting(
        0,
        "muP: the width at which nothing is scaled; a learning rate tuned there holds at others. 0: none.",
        low=0,
        high=16384,
        fork=False,
    )
    mup_base_heads: int = setting(
        0, "Of muP: heads at the base width. 0: as many as here.", low=0, high=256, fork=False
    )
    context: int = setting(128, "Bytes the model sees at once.", low=4, high=65536, fork=False)
    dropout: float = setting(0.0, "Share of activations dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Windows per update.", low=1, high=65536)
    train_tokens: int = setting(
        0,
        "Bytes of a full training, whatever the batch: each step makes as many updates as that takes. "
        "0: a step is an update.",
        low=0,
        high=10**13,
        fork=False,
    )
    data: str = setting(
        "",
        "Text file, or folder of them, to train on. Empty: the source of Python's standard library.",
        fork=False,
    )
    max_bytes: int = setting(16_000_000, "Bytes of text loaded at most.", low=1000, high=10**11, fork=False)
    eval_batches: int = setting(
        4, "Validation batches of 16 windows per report.", low=1, high=100_000, fork=False
    )

    def mistakes(self) -> list[str]:
        """Rules over several settings."""
        found = super().mistakes()
        if self.width % (2 * self.heads):
            found.append(
                f"width: must be an even multiple of heads ({self.heads}), not {self.width}: "
                "each head rotates pairs of its dimensions"
            )
        if self.train_tokens and self.batch_start:
            found.append(
                "batch_start: a batch that grows does not go with train_tokens; leave one of them out"
            )
        if self.mup_base_width and self.optimizer not in FAMILIES:
            found.append(
                f"mup_base_width: muP's learning rates are not known for {self.optimizer}; "
                f"take one of {', '.join(FAMILIES)}, or leave it out"
            )
        return found
