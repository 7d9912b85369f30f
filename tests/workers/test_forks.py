"""What a worker does with a forked trial: nets and scripts go on from another trial's checkpoint."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pytest

from trimtab.wire.states import FailureKind
from trimtab.wire.work import Assignment, CheckpointRef, Measurement
from workers import execution, failures, script
from workers.checkpoints import CheckpointStore, DamagedCheckpointError
from workers.messages import Channel, Ended, Order
from workers.output import OutputTail

LEARNED = {"loss", "val_loss", "train_loss", "accuracy", "lr"}
"""Metrics that no clock has a share in."""
DIGITS = {"name": "digits", "settings": {"channels": 4, "device": "cpu", "batch_size": 50}}
SCRIPT = """
import json, trimtab
config = trimtab.params(lr=0.5)
state = trimtab.checkpoint_dir() / "state.json"
line = json.loads(state.read_text()) if state.exists() else []
step = len(line)
while True:
    line.append(trimtab.lr(step, default=config["lr"]))
    step += 1
    if trimtab.report(step, loss=sum(line)):
        break
state.write_text(json.dumps(line))
"""


def assignment(trial: int, target: int, **changes: Any) -> Assignment:
    document = {
        "token": trial, "study": "s", "study_name": "forks", "trial": trial, "run": 1,
        "params": {"lr": 0.01}, "trainer": DIGITS, "training_seed": 3, "start_step": 0,
        "target_step": target, "max_step": 20, "report_every": 5, "metric": "loss", "resources": {},
        "hang_after_seconds": 60, "lease_seconds": 60,
    }  # fmt: skip
    return Assignment.model_validate(document | changes)


def forked(trial: int, target: int, parent: Ended, **changes: Any) -> Assignment:
    """A run from the checkpoint that ``parent`` has left."""
    assert parent.checkpoint is not None
    start = CheckpointRef(id=1, step=parent.step, uri=parent.checkpoint.uri)
    of_parent = {"checkpoint": start, "start_step": parent.step, "parent": 1, "forked_at": parent.step}
    return assignment(trial, target, **(of_parent | changes))


def train(work: Assignment, store: CheckpointStore) -> tuple[Ended, dict[int, dict[str, float]]]:
    """Train it here; how it ended, and its curve."""
    channel = Channel(OutputTail(), lambda: Order.CONTINUE, work.start_step)
    ended = (script if work.trainer.name is None else execution).train(work, store, channel)
    curve = {}
    try:
        for message in channel.receive(timeout=0.01):
            if isinstance(message, Measurement):
                curve[message.step] = {n: v for n, v in message.metrics.items() if n in LEARNED}
    except queue.Empty:
        pass
    return ended, curve


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "store"))


def test_a_net_goes_on_from_its_parents_checkpoint(store: CheckpointStore) -> None:
    parent, _ = train(assignment(1, 10), store)
    _, on = train(assignment(1, 20, checkpoint=forked(1, 20, parent).checkpoint, start_step=10), store)
    own, same = train(forked(2, 15, parent), store)
    assert same == {15: on[15]}
    # Resumed, it goes on from its own checkpoint, which is no fork any more.
    assert own.checkpoint is not None
    newest = CheckpointRef(id=2, step=15, uri=own.checkpoint.uri)
    _, rest = train(forked(2, 20, parent, checkpoint=newest, start_step=15), store)
    assert rest == {20: on[20]}
    _, slower = train(forked(3, 20, parent, params={"lr": 0.001}), store)
    assert slower[15]["lr"] < on[15]["lr"]
    assert slower[15]["val_loss"] != on[15]["val_loss"]
    _, planned = train(forked(4, 20, parent, schedule=[[10, 0.02], [20, 0.0]]), store)
    assert {step: point["lr"] for step, point in planned.items()} == pytest.approx({15: 0.012, 20: 0.002})


def test_what_does_not_fit_ends_as_an_invalid_configuration(store: CheckpointStore) -> None:
    parent, _ = train(assignment(1, 5), store)
    wider = forked(2, 10, parent, trainer=DIGITS | {"settings": {"channels": 8, "device": "cpu"}})
    with pytest.raises(ValueError, match="channels: a fork cannot change it from 4 to 8") as caught:
        train(wider, store)
    assert failures.of_exception(caught.value, "").kind is FailureKind.INVALID


def test_a_fork_never_starts_from_nothing(store: CheckpointStore, tmp_path: Path) -> None:
    parent, _ = train(assignment(1, 5), store)
    assert parent.checkpoint is not None
    (Path(parent.checkpoint.uri.removeprefix("file://")) / "manifest.json").unlink()
    with pytest.raises(DamagedCheckpointError):
        train(forked(2, 10, parent), store)
    (tmp_path / "train.py").write_text(SCRIPT)
    with pytest.raises(DamagedCheckpointError):
        train(forked(2, 10, parent, trainer={"script": str(tmp_path / "train.py")}), store)


def test_a_script_sees_its_parents_folder_and_its_own_schedule(
    store: CheckpointStore, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    trainer = {"script": str(tmp_path / "train.py")}
    parent, _ = train(assignment(1, 2, trainer=trainer), store)
    _, child = train(forked(2, 4, parent, trainer=trainer, params={"lr": 0.1}), store)
    assert child == {3: {"loss": pytest.approx(0.12)}, 4: {"loss": pytest.approx(0.22)}}
    _, planned = train(forked(3, 4, parent, trainer=trainer, schedule=[[2, 1.0], [3, 2.0]]), store)
    assert planned == {3: {"loss": pytest.approx(1.02)}, 4: {"loss": pytest.approx(3.02)}}
