"""A dispatcher process, its Ray and its actors against a stub of the service."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.workers.conftest import Process, finish, start_dispatcher
from tests.workers.stub_service import Heard, StubService
from trimtab.wire.states import FailureKind, Verdict
from trimtab.wire.work import Capacity, GarbageItem

SCRIPTS = Path(__file__).parent / "scripts"
SLOW = {"seconds_per_step": 0.05}


@pytest.fixture
def plain(service: StubService, dispatcher: Process) -> StubService:
    """The service, with a dispatcher that works for it."""
    return service


def test_trains_to_the_target_and_leaves_a_whole_checkpoint(plain: StubService) -> None:
    heard = plain.add()
    end = plain.wait_end(heard)
    assert (end.outcome, end.step) == ("finished", 20)
    assert list(heard.curve) == list(range(1, 21))
    assert heard.seqs == list(range(1, len(heard.seqs) + 1))
    assert end.checkpoint is not None
    assert end.checkpoint.uri.endswith("/s1/1/1/step-20")
    assert (Path(end.checkpoint.uri.removeprefix("file://")) / "manifest.json").is_file()
    assert plain.authorization == {"Bearer secret"}
    assert "synthetic" in plain.registered[0].trainers
    assert plain.registered[0].total.cpus == 2


def test_measurements_stream_while_training_goes_on(plain: StubService) -> None:
    heard = plain.add(params={"seconds_per_step": 0.1})
    plain.wait_end(heard)
    assert len(heard.seqs) > 10, "each step should come in a report of its own"


def test_a_pause_and_a_resume_in_another_actor_give_the_curve_of_one_piece(
    plain: StubService,
) -> None:
    whole = plain.add(trial=100, params=SLOW)
    plain.wait_end(whole)
    first = plain.add(
        lambda step, _: Verdict.PAUSE if step >= 6 else Verdict.CONTINUE, trial=101, params=SLOW
    )
    end = plain.wait_end(first)
    assert end.outcome == "finished"
    assert 6 <= end.step <= 10, "a verdict is obeyed within about one interval"
    # Another shape: another actor.
    second = plain.resume(first, resources={"cpus": 2})
    assert plain.wait_end(second).step == 20
    assert min(second.curve) == end.step + 1
    assert {**first.curve, **second.curve} == whole.curve


def test_a_stopped_trial_saves_nothing(plain: StubService) -> None:
    heard = plain.add(lambda step, _: Verdict.STOP, params=SLOW, target_step=1000, max_step=1000)
    end = plain.wait_end(heard)
    assert end.outcome == "finished"
    assert end.step < 10
    assert end.checkpoint is None


def test_a_lost_attempt_is_dropped_without_an_end(plain: StubService) -> None:
    heard = plain.add(lambda step, _: Verdict.LOST, params=SLOW, target_step=1000, max_step=1000)
    other = plain.add(resources={"cpus": 2})
    assert plain.wait_end(other).outcome == "finished", "its CPU is free again"
    assert heard.end is None
    assert heard.checkpoints == []


def test_checkpoints_on_the_way_are_reported_in_step_with_the_curve(plain: StubService) -> None:
    heard = plain.add(checkpoint_every=8, save_at_end=False)
    end = plain.wait_end(heard)
    assert [checkpoint.step for checkpoint in heard.checkpoints] == [8, 16]
    assert end.checkpoint is None or end.checkpoint.step == 16


@pytest.mark.parametrize(
    ("params", "kind", "words"),
    [
        ({"fail": "crash", "fail_at": 4}, FailureKind.CRASH, "planted crash at step 4"),
        ({"fail": "oom", "fail_at": 4}, FailureKind.OUT_OF_MEMORY, "planted out of memory"),
        ({"widht": 3}, FailureKind.INVALID, "widht"),
    ],
)
def test_failures_of_built_in_trainers_are_typed(
    plain: StubService, params: dict[str, object], kind: FailureKind, words: str
) -> None:
    heard = plain.add(params=params)
    end = plain.wait_end(heard)
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", kind)
    assert words in end.failure.message
    if kind is FailureKind.CRASH:
        assert list(heard.curve) == [1, 2, 3]
        assert end.step == 3
        assert "Traceback" in end.failure.output_tail


def test_a_hung_trainer_is_killed_and_its_place_is_free_again(plain: StubService) -> None:
    heard = plain.add(params={"fail": "hang", "fail_at": 4}, hang_after_seconds=1.0)
    end = plain.wait_end(heard)
    assert end.failure is not None
    assert end.failure.kind is FailureKind.HANG
    assert list(heard.curve) == [1, 2, 3]
    assert plain.wait_end(plain.add(resources={"cpus": 2})).outcome == "finished"


def test_a_metric_that_is_not_finite_is_reported_as_it_is(plain: StubService) -> None:
    heard = plain.add(params={"fail": "diverge", "fail_at": 3}, target_step=5)
    plain.wait_end(heard)
    assert math.isnan(heard.curve[3]["loss"])


def test_a_worker_that_is_killed_makes_the_attempt_lost(plain: StubService, dispatcher: Process) -> None:
    heard = plain.add(params=SLOW, target_step=1000, max_step=1000)
    plain.wait(lambda: heard.curve)
    for process in dispatcher.family():
        if process.name().startswith("ray::TrainingActor.run"):
            process.kill()
    end = plain.wait_end(heard)
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", FailureKind.LOST)
    assert end.step == max(heard.curve)


def test_a_request_that_no_node_can_hold_is_refused_with_a_reason(plain: StubService) -> None:
    heard = plain.add(resources={"cpus": 2, "custom": {"tpu": 1}})
    end = plain.wait_end(heard)
    assert end.failure is not None
    assert end.failure.kind is FailureKind.INVALID
    assert "tpu" in end.failure.message


def test_a_damaged_checkpoint_is_not_loaded_and_training_starts_from_nothing(plain: StubService) -> None:
    first = plain.add(lambda step, _: Verdict.PAUSE if step else Verdict.CONTINUE, params=SLOW)
    end = plain.wait_end(first)
    assert end.checkpoint is not None
    folder = Path(end.checkpoint.uri.removeprefix("file://"))
    victim = next(path for path in (folder / "files").rglob("*") if path.is_file())
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")
    second = plain.resume(first, params={})
    assert plain.wait_end(second).step == 20
    assert list(second.curve) == list(range(1, 21))


def test_nothing_is_lost_while_the_service_is_away(plain: StubService) -> None:
    heard = plain.add(params={"seconds_per_step": 0.05}, target_step=60, max_step=60)
    plain.wait(lambda: len(heard.curve) > 5)
    plain.stop()
    time.sleep(1.5)
    plain.start()
    assert plain.wait_end(heard).outcome == "finished"
    assert list(heard.curve) == list(range(1, 61))
    assert heard.seqs == sorted(set(heard.seqs))


def test_garbage_is_deleted_but_only_below_the_root(plain: StubService, tmp_path: Path) -> None:
    heard = plain.add()
    end = plain.wait_end(heard)
    assert end.checkpoint is not None
    folder = Path(end.checkpoint.uri.removeprefix("file://"))
    outside = tmp_path / "precious"
    outside.mkdir()
    with plain.lock:
        plain.garbage += [
            GarbageItem(id=1, uri=outside.as_uri()),
            GarbageItem(id=2, uri=end.checkpoint.uri),
            GarbageItem(id=3, uri=end.checkpoint.uri + "-gone"),
            GarbageItem(id=4, uri="s3://bucket/of-somebody"),
            GarbageItem(id=5, uri="nonsense://x"),
        ]
    plain.wait(lambda: set(plain.deleted) == {2, 3})
    assert not folder.exists()
    assert outside.is_dir()


def test_on_a_full_cluster_the_next_run_comes_with_the_end_of_the_one_before_it(plain: StubService) -> None:
    def job(cpus: int) -> Heard:
        slow = {"seconds_per_step": 0.3}
        return plain.add(target_step=1, max_step=1, resources={"cpus": cpus}, params=slow)

    plain.wait(lambda: plain.free == Capacity(cpus=2))
    whole, left, right = job(2), job(1), job(1)
    end = plain.wait_end(whole)
    assert end.lease is not None
    assert end.lease.free == Capacity(cpus=2)
    assert {left.came_with_end_of, right.came_with_end_of} == {whole.assignment.token}
    ends = [plain.wait_end(left), plain.wait_end(right)]
    assert [each.lease.free for each in ends if each.lease is not None][:1] == [Capacity(cpus=1)]


def test_a_place_beside_free_ones_is_offered_with_them(plain: StubService) -> None:
    plain.wait(lambda: plain.free == Capacity(cpus=2))
    alone = plain.add(target_step=1, max_step=1)
    assert plain.wait_end(alone).lease is None
    assert plain.wait_end(plain.add(resources={"cpus": 2})).outcome == "finished"


def script(service: StubService, name: str, **changes: object) -> Heard:
    trainer = {"script": str(SCRIPTS / name), "settings": {"width": 8}}
    return service.add(**({"trainer": trainer, "params": {"lr": 0.5}} | changes))


def test_a_script_reports_saves_and_resumes(plain: StubService) -> None:
    first = script(plain, "train.py", target_step=6)
    end = plain.wait_end(first)
    assert (end.outcome, end.step) == ("finished", 6)
    assert end.checkpoint is not None
    second = plain.resume(first, target_step=12)
    assert plain.wait_end(second).step == 12
    assert list(second.curve) == list(range(7, 13))
    assert second.curve[12] == {"loss": 0.5 / 12, "width": 8.0}


def test_a_script_obeys_a_verdict_and_its_environment_holds_no_secret(plain: StubService) -> None:
    heard = script(
        plain,
        "train.py",
        params={"lr": 0.5, "pause": 0.05},
        target_step=1000,
        max_step=1000,
    )
    plain.rules[heard.assignment.token] = lambda step, _: Verdict.PAUSE if step >= 5 else Verdict.CONTINUE
    end = plain.wait_end(heard)
    assert end.outcome == "finished"
    assert 5 <= end.step <= 10
    assert end.checkpoint is not None
    assert end.checkpoint.step == end.step
    assert heard.curve[1]["loss"] == 0.5


@pytest.mark.parametrize(
    ("mode", "kind", "words"),
    [
        ("raise", FailureKind.CRASH, "ValueError: the data is gone"),
        ("memory", FailureKind.OUT_OF_MEMORY, "MemoryError"),
        ("segfault", FailureKind.CRASH, "SIGSEGV"),
        ("early", FailureKind.CRASH, "ended by itself at step 3 of 20"),
        ("garbage", FailureKind.CRASH, "no report"),
        ("hang", FailureKind.HANG, "no report for 2 s after step 3"),
    ],
)
def test_failures_of_scripts_are_typed_and_keep_the_last_lines(
    plain: StubService, mode: str, kind: FailureKind, words: str
) -> None:
    heard = script(plain, "broken.py", params={"mode": mode}, hang_after_seconds=2.0)
    end = plain.wait_end(heard)
    assert end.failure is not None
    assert (end.outcome, end.failure.kind) == ("failed", kind)
    assert words in end.failure.message
    assert "about to break" in end.failure.output_tail
    assert set(heard.curve) <= {1, 2, 3}


def test_a_script_that_is_not_there_is_invalid(plain: StubService) -> None:
    end = plain.wait_end(script(plain, "nowhere.py"))
    assert end.failure is not None
    assert end.failure.kind is FailureKind.INVALID
    assert "nowhere.py is not on this worker" in end.failure.message


@pytest.mark.parametrize("trainer", ["synthetic", "digits"])
def test_a_finished_trial_is_trained_on_beyond_the_full_fidelity(plain: StubService, trainer: str) -> None:
    heard = plain.add(trainer={"name": trainer}, target_step=6, max_step=6, report_every=4)
    plain.wait_end(heard)
    steps = [*heard.curve]
    for target in (9, 15):
        heard = plain.resume(heard, target_step=target)
        end = plain.wait_end(heard)
        assert (end.outcome, end.step) == ("finished", target)
        assert end.checkpoint is not None
        steps += heard.curve
    assert steps == [4, 6, 8, 9, 12, 15]


@pytest.mark.parametrize("crash", [False, True])
def test_a_child_that_left_the_scripts_session_ends_with_the_script(
    plain: StubService, crash: bool
) -> None:
    seconds = 2001 + crash
    heard = script(plain, "daemon.py", params={"seconds": seconds, "crash": crash})
    assert plain.wait_end(heard).outcome == ("failed" if crash else "finished")
    left = [each.pid for each in psutil.process_iter(["cmdline"]) if f"sleep({seconds})" in str(each.info)]
    assert left == []


def test_a_script_that_reports_at_its_own_steps_ends_at_the_first_beyond_its_target(
    plain: StubService,
) -> None:
    heard = script(plain, "strides.py", target_step=10, report_every=1)
    end = plain.wait_end(heard)
    assert (end.outcome, end.step) == ("finished", 12)
    assert list(heard.curve) == [4, 8, 12]


def wait_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that are still alive after 10 s."""
    return [p for p in psutil.wait_procs(processes, timeout=10)[1] if p.status() != psutil.STATUS_ZOMBIE]


def grown_family(dispatcher: Process, service: StubService, *attempts: Heard) -> list[psutil.Process]:
    service.wait(lambda: all(heard.curve for heard in attempts))
    return dispatcher.family()


def test_sigkill_leaves_no_process_behind_and_a_successor_clears_up_and_goes_on(
    plain: StubService, dispatcher: Process
) -> None:
    built_in = plain.add(params=SLOW, target_step=1000, max_step=1000)
    scripted = script(plain, "stubborn.py", target_step=1000, max_step=1000)
    family = grown_family(dispatcher, plain, built_in, scripted)
    assert sum("stubborn.py" in " ".join(process.cmdline()) for process in family) >= 2
    scratch, _ = dispatcher.folders()
    assert [path for path in scratch.rglob("*") if path.name.startswith("trimtab-run-")]
    left = list(scratch.iterdir())
    orphan = dispatcher.home / "checkpoints" / "s1" / "1" / "999" / "step-5"
    needed = orphan.parents[1] / "998" / "step-4"
    for folder in (orphan, needed):
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "half").write_text("...")
    dispatcher.process.send_signal(signal.SIGKILL)
    dispatcher.process.wait()
    assert wait_gone(family) == []
    plain.orphans.add(999)
    before = {request.incarnation for request in plain.registered}
    # For the tests that follow, too.
    dispatcher.process = start_dispatcher(plain.url, dispatcher.home).process
    assert plain.wait_end(plain.add()).outcome == "finished"
    assert plain.registered[-1].incarnation not in before
    assert not [path for path in left if path.exists()]
    deadline = time.monotonic() + 10
    while orphan.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not orphan.exists()
    assert needed.exists()


def test_sigterm_saves_and_releases_what_is_running_and_what_comes_meanwhile(
    plain: StubService, dispatcher: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of the module: it leaves no dispatcher."""
    endless = {"target_step": 1000, "max_step": 1000, "resources": {"cpus": 0.5}}
    built_in = plain.add(params=SLOW, **endless)
    scripted = script(plain, "train.py", params={"lr": 0.5, "pause": 0.05}, **endless)
    grown_family(dispatcher, plain, built_in, scripted)
    ending = plain.add(params={"seconds_per_step": 0.3}, target_step=2)
    family = grown_family(dispatcher, plain, ending)
    monkeypatch.setattr(plain, "slow_end", 1.0)
    coming = plain.add()
    plain.wait(lambda: coming.leased)
    assert coming.came_with_end_of == ending.assignment.token
    began = time.monotonic()
    finish(dispatcher)
    assert time.monotonic() - began < 10
    assert ending.end is not None
    assert coming.end is not None
    assert (ending.end.outcome, coming.end.outcome) == ("finished", "released")
    for heard in (built_in, scripted):
        assert heard.end is not None
        assert heard.end.outcome == "released"
        assert heard.end.checkpoint is not None
        assert heard.end.checkpoint.step == heard.end.step == max(heard.curve)
    assert wait_gone(family) == []
    assert [folder for folder in dispatcher.folders() if folder.exists()] == []
