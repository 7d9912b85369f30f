"""Checkpoints: who needs them, and whose files may be deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from service.db import checkpoints, leases
from service.db.models import CheckpointRow, MeasurementRow, StudyRow, TrialRow
from tests.service.bench import Bench, saved
from trimtab.wire.work import AskRequest, UploadedFolder


def test_deleting_a_study_leaves_its_checkpoints_to_be_deleted(bench: Bench) -> None:
    study = bench.study(target=3)
    (work,) = bench.lease()
    bench.report(work.token, 1, (3, 1.0), checkpoint=saved(3))
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        checkpoints.abandon(session, row)
        session.delete(row)
    assert bench.all(TrialRow) == bench.all(MeasurementRow) == []
    with bench.database.write() as session:
        (item,) = checkpoints.garbage(session)
        assert item.uri == "mem://step-3"
        checkpoints.done(session, [item.id])
        checkpoints.done(session, [item.id])
        assert checkpoints.garbage(session) == []
    assert bench.get(CheckpointRow).state == "deleted"
    assert bench.report(work.token, 2, (4, 1.0))[0] == "lost"


def test_the_checkpoints_of_a_users_own_loop_are_never_anybodys_to_delete(bench: Bench) -> None:
    study = bench.study(trials=2, target=3, trainer={"name": "external"}, checkpoints={"keep": "best"})
    for number in (1, 2):
        with bench.database.write() as session:
            key = session.get_one(StudyRow, study).key
            asked = leases.ask(session, key, AskRequest(), bench.now).assignment
        assert asked is not None
        bench.report(asked.token, 1, (1, 2.0), checkpoint=saved(1, f"s3://mine/{number}/1"))
        bench.end(asked.token, "finished", 3, checkpoint=saved(3, f"s3://mine/{number}/3"))
    with bench.database.write() as session:
        row = session.get_one(StudyRow, study)
        checkpoints.release(session, row, bench.now)
        checkpoints.abandon(session, row)
        assert checkpoints.garbage(session) == []
    assert {row.state for row in bench.all(CheckpointRow)} == {"deleted"}


@pytest.mark.parametrize(("keep", "kept"), [("best", ["mem://1"]), ("resumable", ["mem://1", "mem://2"])])
def test_the_policy_frees_checkpoints_at_the_end(bench: Bench, keep: str, kept: list[str]) -> None:
    study = bench.study(trials=2, target=3, checkpoints={"keep": keep})
    for number, work in enumerate(bench.lease(2), start=1):
        bench.report(work.token, 1, (3, float(number)))
        bench.end(work.token, "finished", 3, checkpoint=saved(3, f"mem://{number}"))
    with bench.database.write() as session:
        checkpoints.release(session, session.get_one(StudyRow, study), bench.now)
    assert [c.uri for c in bench.all(CheckpointRow) if c.state == "ready"] == kept


def orphans(bench: Bench, *places: tuple[int, int], study: str | None = None) -> list[tuple[int, int]]:
    key = study or bench.get(StudyRow).key
    folders = [UploadedFolder(study=key, token=token, step=step) for token, step in places]
    with bench.database.read() as session:
        return [(f.token, f.step) for f in checkpoints.orphans(session, folders)]


def test_only_uploads_that_can_never_become_a_checkpoint_are_orphans(bench: Bench) -> None:
    bench.study(target=5)
    (work,) = bench.lease()
    lost = work.token
    found = (lost, 2), (lost, 3)
    assert orphans(bench, *found) == []  # it is active: it may register both yet
    bench.report(lost, 1, (2, 1.0), checkpoint=saved(2))
    assert orphans(bench, *found) == []
    bench.now += timedelta(seconds=31)
    with bench.database.write() as session:
        leases.expire(session, bench.now)
    # The folder that was listed before its attempt registered it is not taken away from it.
    assert orphans(bench, *found) == [(lost, 3)]
    bench.report(lost, 2, (3, 1.0), checkpoint=saved(3))  # a zombie: what it says is not stored
    assert orphans(bench, *found) == [(lost, 3)]
    (again,) = bench.lease()
    bench.end(again.token, "finished", 5, measurements=[], checkpoint=saved(5))
    assert bench.all(CheckpointRow)[0].state == "garbage"
    assert orphans(bench, *found, (again.token, 5)) == [(lost, 3)]  # garbage is deleted as garbage
    assert orphans(bench, (lost, 3), study="another") == []
    assert orphans(bench, (999, 3)) == []
