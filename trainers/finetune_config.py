"""Settings of the ``finetune`` trainer."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.batch_sizes import BatchConfig
from trainers.labelled_text import TASKS
from trainers.settings import setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

METRICS = {
    "accuracy": "Share of the validation tokens (tagging) or windows (classification) labelled rightly.",
    "val_loss": "Cross entropy on the validation windows, in nats per label.",
    "train_loss": "Mean cross entropy of the training batches since the last report, in nats per label.",
    **COMMON_METRICS,
}


@dataclass(frozen=True)
class FinetuneConfig(TrainingConfig, BatchConfig):
    """A model of Hugging Face transformers from a local folder, with a new head to tag or classify text."""

    model: str = setting(
        "",
        "Folder of the model and its tokenizer, as save_pretrained writes them. It must be named; nothing "
        "is downloaded.",
        fork=False,
    )
    task: str = setting(
        "classification",
        "classification: which folder a window of text is from. "
        "tagging: the kind of token that a piece of Python source belongs to.",
        choices=TASKS,
        fork=False,
    )
    data: str = setting(
        "",
        "classification: a folder with one subfolder of text files per class. tagging: a Python file, or a "
        "folder of them. Empty: Python's standard library, its packages as classes.",
        fork=False,
    )
    max_bytes: int = setting(
        200_000,
        "Bytes of text taken at most, no more than 16 KiB of a file.",
        low=10_000,
        high=10**10,
        fork=False,
    )
    context: int = setting(
        256,
        "Bytes of text the model sees at once, cut to the tokens it takes.",
        low=4,
        high=65536,
        fork=False,
    )
    batch_size: int = setting(16, "Windows per step.", low=1, high=65536)
    eval_windows: int = setting(128, "Validation windows per report.", low=1, high=1_000_000, fork=False)
