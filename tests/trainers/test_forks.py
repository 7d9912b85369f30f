"""A training that goes on from another one's checkpoint, with a changed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.test_resume import SETTINGS, STEPS, curve, job, same, state
from trainers.base import InvalidConfigurationError, Job, Trainer
from trainers.checkpoint import CheckpointError
from trainers.registry import ENTRIES, create, names
from trainers.settings import inherited
from trainers.torch_trainer import TorchTrainer

FORK = 8
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "gpt": {"lr": 0.003, "weight_decay": 0.02, "beta1": 0.5, "beta2": 0.9, "clip": 0.1, "dropout": 0.0},
    "digits": {"lr": 0.01, "weight_decay": 0.0, "momentum": 0.5, "schedule": "constant", "batch_size": 50},
    "synthetic": {"lr": 0.05, "dropout": 0.1},
    **{name: {"lr": 0.003, "beta1": 0.5} for name in ("encoder", "finetune", "tabular", "vision", "rl")},
    "boosting": {"lr": 0.02, "depth": 2, "rows": 0.5},
    "suite": {"lr": 0.05},
}


def saved(trainer: Trainer, folder: Path) -> Path:
    folder.mkdir()
    trainer.save(folder)
    return folder


def parent(name: str, tmp_path: Path, job: Job) -> Path:
    trainer = create(name, job)
    list(trainer.train(FORK))
    return saved(trainer, tmp_path / "parent")


@pytest.mark.parametrize("name", names())
def test_with_nothing_changed_it_is_the_parents_continuation_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = create(name, job(name))
    expected = [point for point in curve(whole.train(STEPS)) if point[0] > FORK]
    child = create(name, replace(job(name), forked=True))
    child.load(parent(name, tmp_path, job(name)))
    assert curve(child.train(STEPS)) == expected
    assert same(state(saved(child, tmp_path / "child")), state(saved(whole, tmp_path / "whole")))


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_fork_may_change_is_changed(name: str, tmp_path: Path) -> None:
    at = parent(name, tmp_path, job(name))
    changed = job(name, **CHANGES[name])
    with pytest.raises(CheckpointError, match="another training"):
        create(name, changed).load(at)
    child = create(name, replace(changed, forked=True, seed=11))
    child.load(at)
    assert child.step == FORK
    first = curve(child.train(STEPS))
    # Interrupted, it goes on from its own checkpoint, which is of the changed configuration.
    again = create(name, replace(changed, forked=True, seed=11))
    again.load(at)
    begun = curve(again.train(13))
    own = saved(again, tmp_path / "own")
    resumed = create(name, replace(changed, seed=11))
    resumed.load(own)
    assert begun + curve(resumed.train(STEPS)) == first
    unchanged = create(name, job(name))
    unchanged.load(at)
    assert curve(unchanged.train(STEPS)) != first


def test_the_optimizer_trains_with_the_childs_hyperparameters(tmp_path: Path) -> None:
    at = parent("gpt", tmp_path, job("gpt"))
    child = create("gpt", replace(job("gpt", weight_decay=0.02, beta1=0.5), forked=True))
    assert isinstance(child, TorchTrainer)
    child.load(at)
    (part,) = child.optimizer.parts
    matrices, vectors = part.optimizer.param_groups
    assert (matrices["betas"], matrices["weight_decay"]) == ((0.5, 0.95), 0.02)
    assert (vectors["betas"], vectors["weight_decay"]) == ((0.5, 0.95), 0.0)
    moments = part.optimizer.state[matrices["params"][0]]
    assert moments["step"] == FORK
    assert torch.count_nonzero(moments["exp_avg"])


@pytest.mark.parametrize(
    "name", [name for name in CHANGES if name != "suite"]
)  # it has no settings of its own
def test_what_a_checkpoint_does_not_fit_is_refused_in_words(name: str, tmp_path: Path) -> None:
    at = parent(name, tmp_path, job(name))
    kept, other = "optimizer", "sgd" if SETTINGS[name].get("optimizer", "adamw") == "adamw" else "adamw"
    if name == "boosting":  # which has none
        kept, other = "data", "wine"
    with pytest.raises(InvalidConfigurationError, match=f"{kept}: a fork cannot change it from"):
        create(name, replace(job(name, **{kept: other}), forked=True)).load(at)
    assert kept in inherited(ENTRIES[name].config)


def test_a_state_that_does_not_fit_after_all_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that nobody has marked, though it shapes the model."""
    at = parent("digits", tmp_path, job("digits"))
    monkeypatch.setattr("trainers.checkpoint.inherited", lambda config: [])
    with pytest.raises(InvalidConfigurationError, match="does not fit the changed configuration"):
        create("digits", replace(job("digits", channels=8), forked=True)).load(at)


def test_another_trainer_or_other_data_are_no_fork(tmp_path: Path) -> None:
    at = parent("synthetic", tmp_path, job("synthetic"))
    with pytest.raises(CheckpointError, match="trainer was 'synthetic', is 'digits'"):
        create("digits", replace(job("digits"), forked=True)).load(at)


PLAN = ((0, 0.0), (4, 0.04), (10, 0.04), (11, 0.01), (20, 0.001))


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (1, 0.01),
        (4, 0.04),
        (7, 0.04),
        (10, 0.04),
        (11, 0.01),
        (14, 0.007),
        (20, 0.001),
        (99, 0.001),
    ],
)
def test_a_schedule_is_straight_lines_between_its_points(step: int, rate: float) -> None:
    assert Job({}, 0, 20, 1, schedule=PLAN).planned_lr(step) == pytest.approx(rate, abs=1e-12)


def test_before_its_first_point_a_schedule_holds_the_first_rate() -> None:
    assert Job({}, 0, 20, 1, schedule=((5, 0.3), (9, 0.1))).planned_lr(2) == 0.3
    assert Job({}, 0, 20, 1).planned_lr(2) is None


def test_boosting_shrinks_its_trees_by_the_schedule() -> None:
    still = create("boosting", replace(job("boosting"), schedule=((0, 0.0),), report_every=1))
    first, last = (point.metrics["val_loss"] for point in still.train(2))
    assert first == last


def test_training_follows_its_schedule_and_resumes_with_it_alone(tmp_path: Path) -> None:
    planned = replace(job("digits"), schedule=PLAN, report_every=1)
    trainer = create("digits", planned)
    rates = {point.step: point.metrics["lr"] for point in trainer.train(12)}
    assert [rates[step] for step in (1, 2, 5, 11, 12)] == pytest.approx([0.0, 0.01, 0.04, 0.04, 0.01])
    at = saved(trainer, tmp_path / "at12")
    with pytest.raises(CheckpointError, match="schedule was"):
        create("digits", replace(planned, schedule=())).load(at)
    resumed = create("digits", planned)
    resumed.load(at)
    assert curve(resumed.train(STEPS)) == curve(trainer.train(STEPS))
    child = create("digits", replace(planned, schedule=((12, 0.5),), forked=True))
    child.load(at)
    assert next(iter(child.train(13))).metrics["lr"] == 0.5
