"""One configuration on several workloads: rounds, scores, targets, and what diverges on one of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.test_resume import curve
from trainers.base import InvalidConfigurationError, Job, Workload
from trainers.registry import create
from trimtab.catalogue import entry_of
from trimtab.wire.study import TrainerSpec
from workers.execution import workloads

EASY = Workload("easy", "synthetic", {"noise": 0.0}, 40, "loss", 2.5, False)
HARD = Workload("hard", "synthetic", {"noise": 0.0}, 20, "accuracy", 0.9, True)


def job(*workloads: Workload, rounds: int = 20, **config: Any) -> Job:
    return Job({"lr": 0.01, **config}, 0, rounds, 2, workloads=workloads)


def test_each_round_trains_every_workload_by_its_share_and_a_target_ends_one() -> None:
    alone = {
        p.step: p.metrics for p in create("synthetic", Job({"lr": 0.01, "noise": 0.0}, 0, 40, 1)).train(40)
    }
    reached = next(step for step in range(4, 41, 4) if alone[step]["loss"] <= EASY.target)
    found = {point.step: point.metrics for point in create("suite", job(EASY, HARD)).train(20)}
    assert list(found) == list(range(2, 21, 2))
    for step, metrics in found.items():
        assert metrics["easy/loss"] == alone[min(2 * step, reached)]["loss"]
        assert metrics["hard/accuracy"] == alone[step]["accuracy"]
        done = 2 * step >= reached
        assert metrics.get("easy/steps_to_target") == (reached if done else None)
        assert ("easy/seconds_to_target" in metrics) == done
        gap = alone[2 * step]["loss"] - EASY.target
        easy = reached / 40 if done else 1 + gap / (gap + EASY.target)
        short = 0.9 - alone[step]["accuracy"]
        assert metrics["easy/score"] == pytest.approx(easy)
        assert metrics["hard/score"] == pytest.approx(1 + short / (short + 0.9))
        assert metrics["score"] == pytest.approx((metrics["easy/score"] + metrics["hard/score"]) / 2)
        assert metrics["reached"] == (0.5 if done else 0.0)
    scores = [metrics["score"] for metrics in found.values()]
    assert scores == sorted(scores, reverse=True)  # it falls as training gets on, with no leap at a target


def test_what_it_reports_is_in_the_catalogue() -> None:
    def wire(each: Workload) -> dict[str, Any]:
        target = {"metric": each.metric, ("at_least" if each.maximize else "at_most"): each.target}
        return {"name": each.name, "trainer": each.trainer, "steps": each.steps, "target": target}

    spec = TrainerSpec.model_validate({"name": "suite", "workloads": [wire(EASY), wire(HARD)]})
    entry = entry_of(spec)
    assert entry is not None
    assert [replace(each, settings={}) for each in (EASY, HARD)] == list(workloads(spec))
    *_, point = create("suite", job(EASY, HARD)).train(20)
    unreached = {"hard/steps_to_target", "hard/seconds_to_target"}
    assert point.metrics.keys() | unreached == entry.metrics.keys()


def test_what_diverges_on_one_workload_is_lost_there_alone() -> None:
    broken = replace(HARD, settings={"noise": 0.0, "fail": "diverge", "fail_at": 5})
    found = {point.step: point.metrics for point in create("suite", job(EASY, broken)).train(20)}
    assert math.isfinite(found[4]["hard/accuracy"])
    assert math.isnan(found[20]["hard/accuracy"])
    assert found[20]["hard/score"] == 2.0
    assert found[20]["easy/score"] < 1
    everywhere = create("suite", job(broken, replace(broken, name="other")))
    assert math.isnan(list(everywhere.train(20))[-1].metrics["score"])


def test_a_crash_of_a_workload_is_the_trial_s() -> None:
    broken = replace(HARD, settings={"fail": "crash", "fail_at": 3})
    with pytest.raises(RuntimeError, match="planted crash"):
        list(create("suite", job(EASY, broken)).train(20))


def test_a_schedule_is_laid_out_over_rounds() -> None:
    net = Workload("net", "digits", {"channels": 2, "device": "cpu"}, 50, "accuracy", 1.0, True)
    planned = replace(job(net, rounds=10), schedule=((0, 0.01), (10, 0.0)), report_every=1)
    rates = [point.metrics["net/lr"] for point in create("suite", planned).train(10)]
    # Step 4 of 50, the last of the first round, lies at 0.8 rounds.
    assert rates == pytest.approx([0.01 * (1 - (5 * r - 1) / 50) for r in range(1, 11)])


def test_a_workload_that_is_over_is_not_in_the_checkpoint(tmp_path: Path) -> None:
    trainer = create("suite", job(EASY, HARD))
    list(trainer.train(17))
    trainer.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["hard"]
    resumed = create("suite", job(EASY, HARD))
    resumed.load(tmp_path)
    assert curve(resumed.train(20)) == curve(trainer.train(20))


def test_every_mistake_is_named_with_its_workload() -> None:
    with pytest.raises(InvalidConfigurationError) as caught:
        create(
            "suite", job(replace(EASY, settings={"widht": 3}), replace(HARD, trainer="suite"), dropout=2.0)
        )
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["easy", "easy", "hard"]
    with pytest.raises(InvalidConfigurationError, match="at least one"):
        create("suite", job())
