"""Interrupted anywhere and continued in a new process, a training is bit for bit the uninterrupted one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers import tiny_model
from trainers.base import Job, Measured, Workload
from trainers.checkpoint import STATE, CheckpointError
from trainers.registry import ENTRIES, create, names
from trainers.training_config import TrainingConfig

STEPS, EVERY = 20, 6
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "gpt": {
        "width": 16, "depth": 2, "heads": 2, "context": 16, "batch_size": 4, "micro_batch": 2,
        "dropout": 0.1, "lr": 0.01, "max_bytes": 50_000, "eval_batches": 1, "device": "cpu",
        "schedule": "wsd", "batch_start": 1, "batch_warmup_fraction": 0.8,
    },
    "digits": {
        "channels": 4, "batch_size": 100, "dropout": 0.2, "label_noise": 0.1, "optimizer": "sgd",
        "lr": 0.05, "device": "cpu", "schedule": "restarts", "batch_start": 30,
        "batch_warmup_fraction": 0.8,
    },
    "synthetic": {"lr": 0.02, "noise": 0.1},
    "encoder": {
        "width": 16, "depth": 1, "heads": 2, "context": 16, "batch_size": 4, "dropout": 0.1, "lr": 0.01,
        "max_bytes": 20_000, "eval_windows": 8, "device": "cpu",
    },
    "finetune": {
        "context": 16, "batch_size": 4, "lr": 0.01, "max_bytes": 20_000, "eval_windows": 8,
        "device": "cpu",
    },
    "tabular": {"width": 8, "dropout": 0.1, "lr": 0.01, "device": "cpu"},
    "boosting": {"data": "diabetes", "rows": 0.7, "features": 0.5, "lr": 0.2},
    "vision": {
        "model": "mlp", "width": 16, "batch_size": 100, "dropout": 0.2, "label_noise": 0.1, "lr": 0.01,
        "device": "cpu",
    },
    "rl": {"width": 8, "episodes": 2, "longest": 30, "eval_episodes": 2, "lr": 0.02, "device": "cpu"},
    "suite": {"lr": 0.02},
}  # fmt: skip
SUITE = (
    # One whose target is reached on the way, one that never reaches it, one with fewer steps than rounds.
    Workload("formula", "synthetic", {"noise": 0.1}, 50, "loss", 3.0, False),
    Workload("digits", "digits", SETTINGS["digits"] | {"lr": 0.01}, 33, "accuracy", 0.99, True),
    Workload("trees", "boosting", {"data": "diabetes", "rows": 0.7}, 7, "val_loss", 0.1, False),
)
WITH_SCHEDULE: Mapping[str, Mapping[str, Any]] = {
    name: {"schedule": "linear", "final_fraction": 0.1}
    for name, entry in ENTRIES.items()
    if issubclass(entry.config, TrainingConfig)
}
TIMING = ("tokens_per_second", "peak_memory_mb", "seconds_to_target")


def config_of(name: str) -> dict[str, Any]:
    return {**SETTINGS[name], **({"model": tiny_model.folder()} if name == "finetune" else {})}


def job(name: str, **changes: Any) -> Job:
    return Job(
        config={**config_of(name), **changes}, seed=7, max_step=STEPS, report_every=EVERY,
        workloads=SUITE if name == "suite" else (),
    )  # fmt: skip


def curve(points: Iterable[Measured]) -> list[tuple[int, dict[str, float], int | None]]:
    """What must be the same: all but the clock's share."""
    return [
        (p.step, {k: v for k, v in p.metrics.items() if not k.endswith(TIMING)}, p.tokens) for p in points
    ]


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def state(folder: Path) -> Any:
    """The saved tensors, or for trainers without any the saved step; of a suite, of each workload too."""
    if not (folder / STATE).exists():
        return json.loads((folder / "meta.json").read_text())["position"]["step"]
    found = torch.load(folder / STATE, weights_only=True)
    for seen in found.get("seen", {}).values():
        seen["seconds"] = 0.0
        seen["metrics"] = {k: v for k, v in seen["metrics"].items() if not k.endswith(TIMING)}
    return {"own": found, **{below.name: state(below) for below in folder.iterdir() if below.is_dir()}}


def continue_elsewhere(jobs: Mapping[str, Job], folder: Path) -> dict[str, list[Measured]]:
    """Train each job on from ``folder``/NAME/at8 to its end in one new process, saved in NAME/resumed."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("_continue.py")), str(folder)],
        input=json.dumps({name: asdict(job) for name, job in jobs.items()}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: [Measured(**point) for point in points] for name, points in found.items()}


def check_a_new_process(jobs: Mapping[str, Job], folder: Path) -> None:
    """Train each job on, once it was interrupted, in a new process; compare with the uninterrupted one."""
    begun = {}
    for name, wanted in jobs.items():
        (folder / name / "at8").mkdir(parents=True)
        # Off a reporting multiple, so that half a reporting interval must survive too.
        first = create(name, wanted)
        begun[name] = list(first.train(8))
        first.save(folder / name / "at8")
    continued = continue_elsewhere(jobs, folder)
    for name, wanted in jobs.items():
        whole = create(name, wanted)
        expected = list(whole.train(STEPS))
        (folder / name / "whole").mkdir()
        whole.save(folder / name / "whole")
        points = begun[name] + continued[name]
        assert [p.step for p in points] == [6, 12, 18, 20]
        assert curve(points) == curve(expected), name
        assert same(state(folder / name / "resumed"), state(folder / name / "whole")), name
        seconds = [p.seconds for p in points]
        assert seconds == sorted(seconds)


def test_a_new_process_continues_bit_for_bit(tmp_path: Path) -> None:
    # One process for all trainers: starting it takes longer than what it does.
    check_a_new_process({name: job(name) for name in names()}, tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Any, Any]]:
    found = {}
    for name in names():
        folder = tmp_path_factory.mktemp(name)
        trainer = create(name, job(name))
        points = curve(trainer.train(STEPS))
        trainer.save(folder)
        found[name] = (points, state(folder))
    return found


@pytest.mark.parametrize("name", names())
@settings(max_examples=12, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, STEPS), max_size=3).map(sorted), leave_early=st.booleans())
def test_interrupted_anywhere(
    name: str,
    uninterrupted: Mapping[str, tuple[Any, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    leave_early: bool,
) -> None:
    points: list[Measured] = []
    trainer = create(name, job(name))
    for cut in [*cuts, STEPS]:
        for point in trainer.train(cut):
            points.append(point)
            if leave_early:
                break
        folder = tmp_path_factory.mktemp("cut")
        trainer.save(folder)
        # Another training in between must not disturb this one's randomness.
        list(create(name, replace(job(name), seed=99, max_step=2, report_every=1)).train(2))
        trainer = create(name, job(name))
        trainer.load(folder)
    points += trainer.train(STEPS)
    trainer.save(folder := tmp_path_factory.mktemp("end"))

    expected_points, expected_state = uninterrupted[name]
    assert curve(points) == expected_points
    assert same(state(folder), expected_state)


@pytest.mark.parametrize("name", names())
def test_stopping_at_a_measurement_leaves_the_state_of_its_step(name: str) -> None:
    trainer = create(name, job(name))
    for point in trainer.train(STEPS):
        assert trainer.step == point.step
        break
    assert trainer.step == EVERY


@pytest.mark.parametrize("name", names())
def test_seeds_differ(name: str) -> None:
    curves = [curve(create(name, replace(job(name), seed=seed)).train(EVERY)) for seed in (1, 2, 1)]
    assert curves[0] == curves[2] != curves[1]


@pytest.mark.parametrize("name", names())
def test_a_checkpoint_of_another_training_is_refused(name: str, tmp_path: Path) -> None:
    create(name, job(name)).save(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.lr was 0\.\d+, is 0\.5"):
        create(name, job(name, lr=0.5)).load(tmp_path)
    with pytest.raises(CheckpointError, match="seed was 7, is 8"):
        create(name, replace(job(name), seed=8)).load(tmp_path)


def test_missing_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    trainer = create("digits", job("digits"))
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        trainer.load(tmp_path)
    trainer.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta.json", "state.pt"]
    content = bytearray((tmp_path / STATE).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        trainer.load(tmp_path)
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        trainer.load(tmp_path)
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        trainer.load(tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_resuming_is_bit_exact_on_cuda(tmp_path: Path) -> None:
    on_cuda = [name for name, entry in ENTRIES.items() if issubclass(entry.config, TrainingConfig)]
    check_a_new_process({name: job(name, device="cuda") for name in on_cuda}, tmp_path)


@pytest.mark.parametrize("name", names())
def test_a_training_goes_on_beyond_its_full_length_and_is_measured_at_each_target(
    name: str, tmp_path: Path
) -> None:
    points: list[Measured] = []
    for place, target in enumerate((STEPS, 23, 31)):
        trainer = create(name, replace(job(name, **WITH_SCHEDULE.get(name, {})), target_step=target))
        if place:
            trainer.load(tmp_path / str(place - 1))
        points += trainer.train(target)
        (tmp_path / str(place)).mkdir()
        trainer.save(tmp_path / str(place))
    assert [p.step for p in points] == [6, 12, 18, 20, 23, 24, 30, 31]
    if name in WITH_SCHEDULE:
        rates = {p.step: p.metrics["lr"] for p in points}
        final = SETTINGS[name]["lr"] * 0.1
        assert rates[12] > rates[18] > final
        assert [rates[step] for step in (23, 24, 30, 31)] == pytest.approx([final] * 4)
