"""The trainings on which schedules are compared."""

from __future__ import annotations

import pytest

from bench.schedule_tasks import Task, tasks


@pytest.mark.parametrize("task", tasks(), ids=lambda task: task.name)
def test_a_training_goes_on_from_a_snapshot_as_if_nothing_had_been(task: Task) -> None:
    schedule = ((0, task.low), (8, 2 * task.low))
    training = task.start(100)
    training.advance(4, schedule)
    state = training.snapshot()
    training.advance(8, schedule)
    end = (training.validation(), training.test())
    training.restore(state)
    assert training.step == 4
    training.advance(8, schedule)
    assert (training.validation(), training.test()) == end
    training.restore(state)
    training.advance(8, ((4, 4 * task.low),))
    assert training.validation() != end[0]
