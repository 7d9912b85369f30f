"""The ``finetune`` trainer: a model of Hugging Face ``transformers`` learns to tag or classify text.

The model is read from a folder on this machine; nothing is downloaded, and no code from the folder is run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers import labelled_text
from trainers.base import InvalidConfigurationError, Job
from trainers.batch_sizes import samples_of
from trainers.finetune_config import FinetuneConfig
from trainers.labelled_text import Part, Starts
from trainers.randomness import Purpose, generator
from trainers.settings import parse
from trainers.torch_trainer import TorchTrainer

EVAL_BATCH = 16
"""Windows per validation batch: the same for all trials, whatever batch size they train with."""
_NO_LABEL = -100
"""Label of padding and of the tokenizer's own marks: no loss."""
_LONGEST = 10**6
"""Tokenizers that know no limit say a far larger number."""


@dataclass(frozen=True)
class Batch:
    """B windows of at most T tokens."""

    inputs: dict[str, Tensor]
    """What the model takes, each (B, T)."""
    labels: Tensor
    """(B,) to classify, (B, T) to tag."""


class FinetuneTrainer(TorchTrainer):
    """Trains all weights of the model and of its new head on random windows, all classes alike."""

    def __init__(self, job: Job, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.config = config = parse(FinetuneConfig, job.config)
        super().__init__("finetune", job, config, clock=clock)
        folder = _model_folder(config.model)
        self._text = labelled_text.load(config.task, config.data, config.max_bytes)
        self._text.check(config.context)
        self._tokenizer = _load_tokenizer(folder, tagging=config.task == "tagging")
        starts = self._text.validation.even_starts(config.eval_windows, config.context)
        self._validation = [
            self._batch(self._text.validation, starts[first : first + EVAL_BATCH])
            for first in range(0, len(starts), EVAL_BATCH)
        ]
        self._start(
            lambda: _load_model(folder, config.task, self._text.classes, self._tokenizer.pad_token_id),
            data=self._text.digest,
        )

    def _backward(self, step: int) -> Tensor:
        starts = self._text.train.random_starts(
            generator(self.job.seed, Purpose.DATA, step),
            samples_of(self.config, step, self.job.max_step),
            self.config.context,
        )
        return self._accumulate(torch.from_numpy(starts), self._loss)

    def _loss(self, starts: Tensor) -> Tensor:
        """Mean cross entropy of the windows that begin at ``starts``."""
        batch = self._batch(self._text.train, starts.numpy())
        return label_loss(self.model(**batch.inputs).logits, batch.labels)

    def _evaluate(self) -> dict[str, float]:
        loss, right, count = 0.0, 0.0, 0
        for batch in self._validation:
            logits = self.model(**batch.inputs).logits
            labelled = batch.labels != _NO_LABEL
            loss += float(label_loss(logits, batch.labels)) * int(labelled.sum())
            right += float(((logits.argmax(-1) == batch.labels) & labelled).sum())
            count += int(labelled.sum())
        # argmax over NaN would still name a class: a diverged net has no accuracy.
        return {"accuracy": right / count if np.isfinite(loss) else float("nan"), "val_loss": loss / count}

    def _batch(self, part: Part, starts: Starts) -> Batch:
        """The windows at ``starts`` as tokens, on the device."""
        tagging = self.config.task == "tagging"
        places = starts[:, None] + np.arange(self.config.context)
        # To tag, a character must be a byte; a window to classify may begin or end within a character.
        encoding = ("latin-1", "strict") if tagging else ("utf-8", "replace")
        encoded = self._tokenizer(
            [window.tobytes().decode(*encoding) for window in part.text[places]],
            padding=True,
            truncation=self._tokenizer.model_max_length < _LONGEST,
            return_offsets_mapping=tagging,
            return_tensors="pt",
        )
        labels = part.labels[starts].astype(np.int64)
        if tagging:
            spans = encoded.pop("offset_mapping").numpy()  # (B, T, 2): a token's characters
            tags = np.take_along_axis(part.labels[places].astype(np.int64), spans[:, :, 0], axis=1)
            labels = np.where(spans[:, :, 1] > spans[:, :, 0], tags, _NO_LABEL)
        return Batch(
            {name: values.to(self.device) for name, values in encoded.items()},
            torch.from_numpy(labels).to(self.device),
        )


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(
        logits.float().reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=_NO_LABEL
    )


def _model_folder(name: str) -> Path:
    """Raises :class:`InvalidConfigurationError` if there is no folder of a model."""
    if not name:
        raise InvalidConfigurationError(
            "model: name the folder of a model and its tokenizer, as save_pretrained writes them"
        )
    # os.path: a ~user whom nobody knows stays as it is, and then does not exist.
    folder = Path(os.path.expanduser(name))  # noqa: PTH111
    if not folder.is_dir():
        raise InvalidConfigurationError(f"model: {folder} is not a folder; models are not downloaded")
    if not (folder / "config.json").is_file():
        raise InvalidConfigurationError(f"model: {folder} holds no model: there is no config.json")
    return folder


def _load_tokenizer(folder: Path, *, tagging: bool) -> Any:
    tokenizer = _read(folder, "AutoTokenizer")
    if len(tokenizer) <= len(set(tokenizer.all_special_tokens)):
        # Without its files transformers makes one that knows no word.
        raise InvalidConfigurationError(
            f"model: {folder} holds no tokenizer; save_pretrained it there, too"
        )
    if tagging and not tokenizer.is_fast:
        raise InvalidConfigurationError(
            f"model: the tokenizer in {folder} does not say which characters a token stands for, which "
            "tagging needs; save it as a fast one"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise InvalidConfigurationError(f"model: the tokenizer in {folder} has no token to pad with")
    return tokenizer


def _load_model(folder: Path, task: str, classes: tuple[str, ...], pad_token_id: int) -> nn.Module:
    heads = {"tagging": "AutoModelForTokenClassification"}
    model: nn.Module = _read(
        folder,
        heads.get(task, "AutoModelForSequenceClassification"),
        num_labels=len(classes),
        pad_token_id=pad_token_id,
        # A head for other classes, if the model brings one, is replaced.
        ignore_mismatched_sizes=True,
        dtype=torch.float32,
    )
    return model


def _read(folder: Path, kind: str, **options: Any) -> Any:
    """Something of ``transformers`` from ``folder``.

    :raises InvalidConfigurationError: the package is missing, or cannot make it of what is there
    """
    try:
        import transformers
    except ImportError as error:
        raise InvalidConfigurationError(
            "the finetune trainer needs the package transformers beside the worker: "
            "pip install transformers"
        ) from error
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InvalidConfigurationError(
            f"model: transformers cannot make an {kind} of {folder}: {error}"
        ) from error
