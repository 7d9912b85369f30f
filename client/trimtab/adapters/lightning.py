"""A callback of Lightning's ``Trainer``::

    tuning = TrimtabCallback()
    trainer = Trainer(callbacks=[tuning], ...)
    trainer.fit(model, ckpt_path=tuning.ckpt_path)

A step of the study is an epoch. What was logged by its end is reported, under the names that it was logged
by. The callback saves what the trial goes on from; ``enable_checkpointing=False`` spares the files that
Lightning itself would write beside the script. For a training of one process.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

import trimtab
from trimtab.adapters.metrics import numbers

_NAME = "lightning.ckpt"


class TrimtabCallback(Callback):
    """Reports each epoch; saves and ends the training when Trimtab says so."""

    def __init__(self) -> None:
        self._ended = False

    @property
    def ckpt_path(self) -> str | None:
        """The trial's checkpoint, for ``trainer.fit(..., ckpt_path=...)``."""
        path = trimtab.checkpoint_dir() / _NAME
        return str(path) if path.exists() else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Raises ``ValueError`` if training does not go on from the trial's checkpoint."""
        if self.ckpt_path is not None and trainer.ckpt_path is None:
            raise ValueError(
                "the trial has a checkpoint, but training begins anew; "
                "say trainer.fit(model, ckpt_path=tuning.ckpt_path) with tuning = TrimtabCallback()"
            )

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the epoch; end if it was the last."""
        logged: dict[str, Any] = dict(trainer.callback_metrics)
        values = numbers(logged)
        if not values:
            raise ValueError(
                'nothing was logged in this epoch; say self.log("val_loss", loss) in the module'
            )
        if trimtab.report(trainer.current_epoch + 1, **values):
            self._ended = trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, now that the epoch is complete and its learning-rate schedule has moved."""
        if self._ended:
            trainer.save_checkpoint(trimtab.checkpoint_dir() / _NAME)
