"""The callback of ``transformers.Trainer``, called by the Trainer's own callback handler.

A whole training with it is in ``tests/workers/test_adapters.py``, which needs the package accelerate, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler

from trimtab import run_folder, script
from trimtab.adapters.huggingface import TrimtabCallback
from trimtab.run_folder import ScriptAssignment


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a run to step 20."""
    run_folder.write_assignment(tmp_path, ScriptAssignment({"lr": 0.1}, 0, 20, 100, 10, 0))
    monkeypatch.setenv(run_folder.RUN_DIR_VARIABLE, str(tmp_path))
    script._assignment.cache_clear()
    yield tmp_path
    script._assignment.cache_clear()


class Training:
    """As much of a Trainer as its callbacks see."""

    def __init__(self, output_dir: str, step: int = 0) -> None:
        self.callback = TrimtabCallback()
        self.args: Any = SimpleNamespace(output_dir=output_dir)
        self.state, self.control = TrainerState(global_step=step), TrainerControl()
        self.handler = CallbackHandler([self.callback], None, None, None, None)

    def begin(self) -> None:
        self.control = self.handler.on_train_begin(self.args, self.state, self.control)

    def evaluate(self, step: int, loss: float) -> bool:
        """Whether the Trainer is to save and end."""
        self.state.global_step = step
        metrics = {"eval_loss": loss, "epoch": 1.0, "eval_model_name": "tiny"}
        self.control = self.handler.on_evaluate(self.args, self.state, self.control, metrics)
        assert self.control.should_save == self.control.should_training_stop
        return self.control.should_training_stop


def test_evaluations_are_reported_and_the_target_ends_the_training(run: Path) -> None:
    training = Training(TrimtabCallback().output_dir)
    training.begin()
    assert not training.evaluate(10, 0.5)
    assert training.evaluate(20, float("nan"))
    first, last = run_folder.read_reports(run)[0]
    assert (first.step, dict(first.metrics)) == (10, {"eval_loss": 0.5, "epoch": 1.0})
    assert (last.step, str(last.metrics["eval_loss"])) == (20, "nan")


def test_a_verdict_ends_it_at_the_next_evaluation(run: Path) -> None:
    training = Training(TrimtabCallback().output_dir)
    training.begin()
    run_folder.give_verdict(run, "pause")
    assert training.evaluate(5, 0.5)


def test_saving_elsewhere_and_beginning_anew_are_refused_in_words(run: Path) -> None:
    with pytest.raises(ValueError, match=r"saves into out, .*output_dir=tuning\.output_dir"):
        Training("out").begin()
    kept = TrimtabCallback()
    assert kept.resume_from is None
    (Path(kept.output_dir) / "checkpoint-9").mkdir()
    (Path(kept.output_dir) / "checkpoint-10").mkdir()
    assert kept.resume_from == str(Path(kept.output_dir) / "checkpoint-10")
    with pytest.raises(ValueError, match=r"resume_from_checkpoint=tuning\.resume_from"):
        Training(kept.output_dir).begin()
    Training(kept.output_dir, step=10).begin()
