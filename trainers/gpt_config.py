"""Settings of the ``gpt`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import setting
from trainers.training_config import TrainingConfig

METRICS = {
    "val_loss": "Cross entropy on the validation windows, in nats per byte.",
    "train_loss": "Mean cross entropy of the training batches since the last report, in nats per byte.",
    "lr": "Learning rate of the last step.",
    "tokens_per_second": "Bytes trained per second since the trial's start, evaluation included.",
    "peak_memory_mb": "Most GPU memory held at once in this process, in MiB; on CUDA only.",
}


@dataclass(frozen=True)
class GptConfig(TrainingConfig):
    """A decoder-only transformer on bytes, trained on text found on this machine."""

    width: int = setting(128, "Size of the residual stream.", low=4, high=16384, fork=False)
    depth: int = setting(4, "Transformer blocks.", low=1, high=256, fork=False)
    heads: int = setting(
        4, "Attention heads; width must be an even multiple of them.", low=1, high=256, fork=False
    )
    context: int = setting(128, "Bytes the model sees at once.", low=4, high=65536, fork=False)
    dropout: float = setting(0.0, "Share of activations dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Windows per optimizer step.", low=1, high=65536)
    micro_batch: int = setting(
        0,
        "Windows per forward pass; the gradients of a step's passes are added up. 0: all at once.",
        low=0,
        high=65536,
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
    precision: str = setting(
        "auto",
        "Arithmetic of the forward pass. auto: bfloat16 on CUDA, float32 on CPU.",
        choices=("auto", "float32", "bfloat16"),
    )

    def mistakes(self) -> list[str]:
        """Rules over several settings."""
        found = []
        if self.width % (2 * self.heads):
            found.append(
                f"width: must be an even multiple of heads ({self.heads}), not {self.width}: "
                "each head rotates pairs of its dimensions"
            )
        if self.micro_batch and self.batch_size % self.micro_batch:
            found.append(
                f"micro_batch: must divide batch_size ({self.batch_size}), unlike {self.micro_batch}"
            )
        return found
