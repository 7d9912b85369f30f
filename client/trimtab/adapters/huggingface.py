"""A callback of Hugging Face's ``transformers.Trainer``::

    tuning = TrimtabCallback()
    trainer = Trainer(model, TrainingArguments(output_dir=tuning.output_dir, eval_strategy="steps", ...),
                      callbacks=[tuning], ...)
    trainer.train(resume_from_checkpoint=tuning.resume_from)

A step of the study is an optimizer step (``global_step``). Each evaluation is reported, under the names
that the Trainer gives (``eval_loss``); so ``eval_steps`` should divide the study's fidelities. Any
``save_strategy`` but ``best`` will do. For a training of one process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

import trimtab
from trimtab.adapters.metrics import numbers


class TrimtabCallback(TrainerCallback):
    """Reports evaluations; has the Trainer save and end when Trimtab says so."""

    @property
    def output_dir(self) -> str:
        """Where the Trainer must save: what is there is kept while the trial pauses."""
        return str(trimtab.checkpoint_dir())

    @property
    def resume_from(self) -> str | None:
        """The trial's newest checkpoint, for ``trainer.train(resume_from_checkpoint=...)``."""
        found: str | None = get_last_checkpoint(self.output_dir)  # type: ignore[no-untyped-call]
        return found

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse what would lose the trial's state.

        :raises ValueError: the Trainer saves elsewhere, or does not go on from the trial's checkpoint
        """
        if Path(args.output_dir or ".").absolute() != Path(self.output_dir).absolute():
            raise ValueError(
                f"the Trainer saves into {args.output_dir}, which is lost when the trial pauses; "
                "say TrainingArguments(output_dir=tuning.output_dir) with tuning = TrimtabCallback()"
            )
        if state.global_step == 0 and self.resume_from is not None:
            raise ValueError(
                "the trial has a checkpoint, but training begins anew; "
                "say trainer.train(resume_from_checkpoint=tuning.resume_from)"
            )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Report the evaluation; save and end if it was the last."""
        if state.global_step and trimtab.report(state.global_step, **numbers(kwargs["metrics"])):
            control.should_save = True
            control.should_training_stop = True
