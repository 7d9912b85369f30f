"""The predicted rule at work: what the scheduler learns, what reports are told, how stops are replayed."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from service.db import imports, predictors, reads, runs, studies
from service.db.models import PredictorRow, StudyRow, TrialRow
from service.loops.upkeep import Learn
from tests.service.bench import Bench
from tests.service.conftest import statements_of
from trimtab.wire.work import ImportRequest

FULL = 32
RULE = {"rule": "predicted", "min_trials": 8, "protect": 2}


def loss(lr: float, step: int) -> float:
    """A curve that falls like a power of the step, to an end that is best at a rate of 0.03."""
    return math.log10(lr / 0.03) ** 2 + 0.5 + 1 / step


class Study:
    """A study with a predicted rule, and a worker that trains its trials in order."""

    def __init__(self, bench: Bench, sign: int = 1, **changes: Any) -> None:
        self.bench, self.sign = bench, sign
        fidelity = {"unit": "steps", "min": 2, "max": FULL, "report_every": 2}
        with bench.database.write() as session:
            direction = {"name": "loss", "direction": "minimize" if sign == 1 else "maximize"}
            study = bench.make_study(
                session, **({"fidelity": fidelity, "metric": direction, "stopping": [RULE]} | changes)
            )
            self.id, self.key = int(study.id), study.key

    def trial(self, lr: float, to_end: bool = False) -> int:
        """Queue a trial and lease it; its token."""
        with self.bench.database.write() as session:
            study = session.get_one(StudyRow, self.id)
            runs.create_trial(
                session, study, {"lr": lr}, target=FULL, origin="strategy", to_end=to_end,
                reason="a test", now=self.bench.now,
            )  # fmt: skip
        (work,) = self.bench.lease()
        return work.token

    def points(self, lr: float, first: int = 2, last: int = FULL) -> list[tuple[int, float]]:
        return [(step, self.sign * loss(lr, step)) for step in range(first, last + 1, 2)]

    def train(self, lr: float) -> None:
        token = self.trial(lr, to_end=True)
        self.bench.report(token, 1, *self.points(lr))
        assert self.bench.end(token, "finished", FULL) == (True, "completed")

    def learn(self) -> None:
        Learn(self.bench.database).tick(self.bench.now)

    def replay(self) -> Any:
        with self.bench.database.read() as session:
            return reads.stops(session, self.key)


LRS = [0.001, 0.002, 0.005, 0.01, 0.03, 0.06, 0.1, 0.2, 0.5, 0.9]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_will_not_get_there_is_stopped_and_the_rest_goes_on(bench: Bench, sign: int) -> None:
    study = Study(bench, sign)
    for lr in LRS[:7]:
        study.train(lr)
    study.learn()
    assert bench.all(PredictorRow) == []  # too few
    for lr in LRS[7:]:
        study.train(lr)
    study.learn()
    assert bench.get(PredictorRow).finished == 10

    good = study.trial(0.031)
    for seq, point in enumerate(study.points(0.031), start=1):
        assert bench.report(good, seq, point) == ("continue", "")
    assert bench.end(good, "finished", FULL) == (True, "completed")

    bad = study.trial(0.7)
    verdict, seq = "continue", 0
    points = iter(study.points(0.7))
    while verdict == "continue":
        seq += 1
        step, value = next(points)
        verdict, reason = bench.report(bad, seq, (step, value))
    assert step < FULL / 2
    assert ": predicted to end at " in reason
    assert f"beat {sign * loss(0.03, FULL):.6g}" in reason
    assert bench.end(bad, "finished", step) == (True, "stopped")

    replay = study.replay()
    (stop,) = replay.items
    assert (stop.trial, stop.step, stop.reason, stop.saved) == (12, step, reason, FULL - step)
    assert stop.low <= stop.predicted <= stop.high
    assert stop.chance < 0.01
    assert replay.learned_from == 11
    assert replay.trained == 11 * FULL + step
    assert replay.factor == pytest.approx(12 * FULL / replay.trained)
    assert replay.expected_loss == stop.chance


def test_a_trial_is_judged_at_the_checks_that_a_report_passes(bench: Bench) -> None:
    study = Study(bench)
    for lr in LRS:
        study.train(lr)
    study.learn()
    late = study.trial(0.7)
    assert bench.report(late, 1, *study.points(0.7))[0] == "stop"  # all at once, none at a check's end


def test_a_trial_to_be_trained_to_the_end_is_not_stopped(bench: Bench) -> None:
    study = Study(bench)
    for lr in LRS:
        study.train(lr)
    study.learn()
    token = study.trial(0.7, to_end=True)
    assert bench.report(token, 1, *study.points(0.7, last=FULL - 2))[0] == "continue"


def test_it_is_fitted_again_when_a_tenth_more_have_finished(bench: Bench) -> None:
    study = Study(bench)
    for lr in LRS * 2:
        study.train(lr)
    study.learn()
    first = bench.get(PredictorRow)
    assert first.finished == 20
    for more, at in ((1, first.at), (1, bench.now + timedelta(hours=2))):
        bench.now += timedelta(hours=1)
        for _ in range(more):
            study.train(0.02)
        study.learn()
        assert bench.get(PredictorRow).at == at


def test_curves_without_a_last_measurement_teach_nothing(bench: Bench) -> None:
    study = Study(bench)
    curve = [{"step": step, "metrics": {"loss": 1.0}} for step in (2, FULL + 2)]
    request = ImportRequest.model_validate(
        {"trials": [{"params": {"lr": lr}, "curve": curve} for lr in LRS]}
    )
    with bench.database.write() as session:
        imports.import_trials(session, study.key, request, bench.now)
    study.learn()
    assert bench.get(PredictorRow).document is None
    token = study.trial(0.7)
    assert bench.report(token, 1, *study.points(0.7))[0] == "continue"


def test_a_study_that_was_deleted_meanwhile_is_left_alone(bench: Bench) -> None:
    study = Study(bench)
    for lr in LRS:
        study.train(lr)
    with bench.database.read() as session:
        (lesson,) = predictors.lessons(session)
    with bench.database.write() as session:
        studies.cancel(session, study.key, bench.now)
        studies.delete(session, study.key)
    with bench.database.write() as session:
        predictors.store(session, lesson, lesson.learn(), bench.now)
    assert bench.all(PredictorRow) == []


def test_studies_without_the_rule_pay_nothing_for_it(bench: Bench) -> None:
    with_rule, without = Study(bench), Study(bench, stopping=[])
    asked = {}
    with statements_of(bench.database) as statements:
        for study in (with_rule, without):
            token = study.trial(0.1)
            del statements[:]
            bench.report(token, 1, (2, 1.0))  # before the first check
            assert not [each for each in statements if "predictors" in each]
            bench.report(token, 2, (6, 1.0))
            asked[study.id] = [each for each in statements if "predictors" in each]
            bench.end(token, "failed", 6)
    assert asked == {with_rule.id: asked[with_rule.id], without.id: []}
    assert len(asked[with_rule.id]) == 1


def test_other_stops_are_replayed_too_and_without_a_model_nothing_is_foretold(bench: Bench) -> None:
    study = Study(bench, stopping=[{"rule": "patience", "reports": 2}])
    token = study.trial(0.1)
    bench.report(token, 1, (2, 1.0), (4, 2.0))
    assert bench.report(token, 2, (6, 2.0))[0] == "stop"
    bench.end(token, "finished", 6)
    assert bench.get(TrialRow).state == "stopped"
    replay = study.replay()
    (stop,) = replay.items
    assert "no improvement" in stop.reason
    assert (stop.predicted, stop.chance, replay.expected_loss, replay.unpredicted) == (None, None, None, 1)
    assert (replay.learned_from, replay.trained, replay.saved) == (0, 6, FULL - 6)
    assert replay.factor == pytest.approx(FULL / 6)


def test_a_study_without_stops_has_an_empty_replay(bench: Bench) -> None:
    replay = Study(bench).replay()
    assert (replay.items, replay.trained, replay.saved, replay.factor) == ([], 0, 0, None)
    assert (replay.expected_loss, replay.learned_from) == (0.0, 0)
