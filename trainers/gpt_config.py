"""Settings of the ``gpt`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.settings import Config, setting

METRICS = {
    "val_loss": "Cross entropy on the validation windows, in nats per byte.",
    "train_loss": "Mean cross entropy of the training batches since the last report, in nats per byte.",
    "lr": "Learning rate of the last step.",
    "tokens_per_second": "Bytes trained per second since the trial's start, evaluation included.",
    "peak_memory_mb": "Most GPU memory held at once in this process, in MiB; on CUDA only.",
}


@dataclass(frozen=True)
class GptConfig(Config):
    """A decoder-only transformer on bytes, trained on text found on this machine."""

    width: int = setting(128, "Size of the residual stream.", low=4, high=16384)
    depth: int = setting(4, "Transformer blocks.", low=1, high=256)
    heads: int = setting(4, "Attention heads; width must be an even multiple of them.", low=1, high=256)
    context: int = setting(128, "Bytes the model sees at once.", low=4, high=65536)
    dropout: float = setting(0.0, "Share of activations dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Windows per optimizer step.", low=1, high=65536)
    micro_batch: int = setting(
        0,
        "Windows per forward pass; the gradients of a step's passes are added up. 0: all at once.",
        low=0,
        high=65536,
    )
    optimizer: str = setting("adamw", "Optimizer.", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "Peak learning rate.", low=0.0, high=1000.0)
    weight_decay: float = setting(
        0.1, "Decay of the weight matrices (decoupled for AdamW, L2 for SGD).", low=0.0, high=100.0
    )
    beta1: float = setting(0.9, "AdamW's decay of the gradient mean.", low=0.0, high=0.99999)
    beta2: float = setting(0.95, "AdamW's decay of the squared gradient mean.", low=0.0, high=0.999999)
    momentum: float = setting(0.9, "Momentum of SGD.", low=0.0, high=0.99999)
    schedule: str = setting(
        "cosine", "Shape of the learning rate after the warm-up.", choices=("constant", "linear", "cosine")
    )
    warmup_fraction: float = setting(
        0.1, "Share of a full training in which the learning rate rises linearly.", low=0.0, high=1.0
    )
    final_fraction: float = setting(
        0.0, "Learning rate at the end of a full training, as a share of the peak.", low=0.0, high=1.0
    )
    clip: float = setting(1.0, "Largest norm of the gradient; longer ones are cut. 0: none.", low=0.0)
    data: str = setting(
        "", "Text file, or folder of them, to train on. Empty: the source of Python's standard library."
    )
    max_bytes: int = setting(16_000_000, "Bytes of text loaded at most.", low=1000, high=10**11)
    eval_batches: int = setting(4, "Validation batches of 16 windows per report.", low=1, high=100_000)
    precision: str = setting(
        "auto",
        "Arithmetic of the forward pass. auto: bfloat16 on CUDA, float32 on CPU.",
        choices=("auto", "float32", "bfloat16"),
    )
    device: str = setting(
        "auto", "auto: CUDA if there is a GPU, else CPU.", choices=("auto", "cpu", "cuda")
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
