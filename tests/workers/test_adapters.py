"""Training code written for other tools, and in other languages, through the real script runner."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workers.stub_service import StubService
from trimtab.wire.work import Assignment, CheckpointRef, Measurement
from workers import script
from workers.checkpoints import CheckpointStore
from workers.failures import InvalidJobError
from workers.messages import Channel, Ended, Message, Order
from workers.output import OutputTail

SCRIPTS = Path(__file__).parent / "scripts"


class Watched(Channel):
    """A channel that orders to pause once ``pause_at`` steps are measured."""

    def __init__(self, pause_at: float, start_step: int) -> None:
        self.curve: dict[int, dict[str, float]] = {}
        super().__init__(OutputTail(), self._wanted, start_step)
        self._pause_at = pause_at

    def _wanted(self) -> Order:
        return Order.PAUSE if max(self.curve, default=0) >= self._pause_at else Order.CONTINUE

    def send(self, message: Message) -> None:
        if isinstance(message, Measurement):
            self.curve[message.step] = dict(message.metrics)
        super().send(message)


@dataclass
class Run:
    """One run of a script, and what was heard of it."""

    ended: Ended
    curve: dict[int, dict[str, float]]
    output: str


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Run]:
    """Runs a trainer from a checkpoint (or nothing) to ``target``, or until it is told to pause."""
    store = CheckpointStore(str(tmp_path / "store"))

    def run(
        trainer: dict[str, Any],
        params: dict[str, Any],
        *,
        target: int,
        pause_at: float = math.inf,
        after: Run | None = None,
    ) -> Run:
        assignment: Assignment = (
            StubService().add(trainer=trainer, params=params, target_step=target, max_step=50).assignment
        )
        if after is not None:
            saved = after.ended.checkpoint
            assert saved is not None, after.output
            assignment = assignment.model_copy(
                update={
                    "checkpoint": CheckpointRef(id=1, step=saved.step, uri=saved.uri),
                    "start_step": saved.step,
                    "run": 2,
                }
            )
        channel = Watched(pause_at, assignment.start_step)
        ended = script.train(assignment, store, channel)
        return Run(ended, channel.curve, channel.output.text())

    return run


RAY_TUNE = {"module": "trimtab.adapters.ray_tune", "folder": str(SCRIPTS)}


@pytest.mark.parametrize("name", ["train", "Learner"])
def test_what_was_made_for_ray_tune_runs_unchanged(train: Callable[..., Run], name: str) -> None:
    trainer = {**RAY_TUNE, "args": [f"for_ray_tune.py:{name}"]}
    first = train(trainer, {"lr": 0.5}, target=50, pause_at=4)
    assert first.ended.outcome == "finished", first.output
    # How far it comes before it hears of the order is a matter of luck.
    stood = first.ended.step
    assert 4 <= stood < 50
    then = train(trainer, {"lr": 0.5}, target=stood + 5, after=first)
    assert then.ended.step == stood + 5, then.output
    # The function saves every third step, and begins at the newest one; the class saves when it is told to.
    begins = stood // 3 * 3 if name == "train" else stood
    assert list(then.curve) == list(range(begins + 1, stood + 6))
    for step, metrics in {**first.curve, **then.curve}.items():
        assert metrics == {"loss": pytest.approx(0.5**step), "step_seen": step}


def test_a_ray_tune_target_that_is_not_there_is_named(train: Callable[..., Run]) -> None:
    run = train({**RAY_TUNE, "args": ["for_ray_tune.py:trian"]}, {"lr": 0.5}, target=5)
    assert run.ended.failure is not None
    assert "for_ray_tune.py holds no function or class trian" in run.ended.failure.message


def plain_losses(epochs: int) -> list[float]:
    """The validation losses of ``scripts/for_lightning.py``, by torch alone."""
    torch.manual_seed(0)
    x = torch.randn(32, 2)
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    losses = []
    for _ in range(epochs):
        for rows in torch.split(x, 8):
            optimizer.zero_grad()
            (layer(rows)[:, 0] - rows.sum(1)).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float((layer(x)[:, 0] - x.sum(1)).square().mean()))
        schedule.step()
    return losses


def test_a_callback_brings_a_lightning_training_along(train: Callable[..., Run]) -> None:
    trainer = {"script": str(SCRIPTS / "for_lightning.py")}
    first = train(trainer, {"lr": 0.01}, target=50, pause_at=2)
    assert first.ended.outcome == "finished", first.output
    stood = first.ended.step
    assert 2 <= stood < 50
    then = train(trainer, {"lr": 0.01}, target=stood + 3, after=first)
    assert list(then.curve) == [stood + 1, stood + 2, stood + 3], then.output
    curve = first.curve | then.curve
    assert [m["val_loss"] for m in curve.values()] == pytest.approx(plain_losses(stood + 3), rel=1e-5)
    # The learning-rate schedule, too, goes on where it stood.
    assert [m["rate"] for m in curve.values()] == pytest.approx(
        [0.01 * 0.1 ** (epoch // 2) for epoch in range(stood + 3)]
    )


def test_a_callback_brings_a_transformers_training_along(train: Callable[..., Run]) -> None:
    pytest.importorskip("accelerate", reason="transformers.Trainer needs it")
    trainer = {"script": str(SCRIPTS / "for_huggingface.py")}
    first = train(trainer, {"lr": 0.01}, target=50, pause_at=20)
    assert first.ended.outcome == "finished", first.output
    stood = first.ended.step
    assert 20 <= stood < 50
    then = train(trainer, {"lr": 0.01}, target=stood + 4, after=first)
    assert list(then.curve) == [stood + 2, stood + 4], then.output
    # A training that began anew would be near its first loss again.
    before, after = first.curve[stood]["eval_loss"], then.curve[stood + 2]["eval_loss"]
    assert abs(after - before) < abs(first.curve[2]["eval_loss"] - before) / 2


def test_a_shell_script_needs_nothing_but_its_environment(train: Callable[..., Run]) -> None:
    trainer = {"script": str(SCRIPTS / "train.sh")}
    params = {"lr": 0.5, "mix/web": 0.25, "pause": 0.02}
    first = train(trainer, params, target=1000, pause_at=5)
    assert first.ended.outcome == "finished", first.output
    stood = first.ended.step
    assert 5 <= stood < 1000
    then = train(trainer, params, target=stood + 3, after=first)
    assert list(then.curve) == [stood + 1, stood + 2, stood + 3], then.output
    assert then.curve[stood + 3] == {"loss": pytest.approx(0.5 / (stood + 3), rel=1e-4), "share": 0.25}
    assert then.ended.checkpoint is not None


def test_a_script_that_nothing_can_run_is_refused(train: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "train.R").write_text("cat('hello')")
    with pytest.raises(InvalidJobError, match=r"neither Python \(\.py\) nor executable.*chmod \+x"):
        train({"script": str(tmp_path / "train.R")}, {}, target=3)
