"""Which runs are leased: fair shares, and only what fits."""

from __future__ import annotations

from service.db.models import StudyRow
from tests.service.bench import Bench


def test_leases_are_fair_and_fit(bench: Bench) -> None:
    wide = bench.study(trials=8, parallelism=8)
    narrow = bench.study(trials=4, parallelism=2, resources={"cpus": 1, "gpus": 0.5})
    keys = {bench.get(StudyRow, id=wide).key: "wide", bench.get(StudyRow, id=narrow).key: "narrow"}
    given = [keys[a.study] for a in bench.lease(20, gpus=1)]
    assert given[:3] == ["wide", "narrow", "wide"]  # the oldest first, then the smaller share
    assert (given.count("wide"), given.count("narrow")) == (8, 2)
    assert bench.lease(20, gpus=1) == []


def test_leases_fit_into_what_is_free(bench: Bench) -> None:
    bench.study(trials=8, parallelism=8, resources={"cpus": 0.1, "gpus": 0.25, "custom": {"disk": 2.0}})
    assert bench.lease(8, gpus=1) == []
    assert len(bench.lease(8, gpus=1, custom={"disk": 5.0})) == 2
    assert len(bench.lease(8, cpus=0.3, gpus=1, custom={"disk": 50.0})) == 3
