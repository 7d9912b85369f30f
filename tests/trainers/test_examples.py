"""The example studies say what the API and the trainers take."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from trainers.base import Job
from trainers.registry import ENTRIES
from trainers.settings import parse
from trimtab import check
from trimtab.wire.study import StudySpec

EXAMPLES = Path(__file__).parents[2] / "examples"
BUILT_IN = [
    path.name for path in EXAMPLES.glob("*.yaml") if "name" in yaml.safe_load(path.read_text())["trainer"]
]


def spec_of(name: str) -> StudySpec:
    return check.study(yaml.safe_load((EXAMPLES / name).read_text()))


@pytest.mark.parametrize("name", BUILT_IN)
def test_settings_and_space_are_the_trainers(name: str) -> None:
    spec = spec_of(name)
    assert spec.trainer.name is not None
    if spec.trainer.workloads:
        return  # what each of its trainers takes differs; the next test trains it
    entry = ENTRIES[spec.trainer.name]
    assert {spec.metric.name, *spec.watched} <= entry.metrics.keys()
    assert spec.fidelity.unit == entry.fidelity_unit
    values = [
        {key: getattr(parameter, end) for key, parameter in spec.space.items() if hasattr(parameter, end)}
        for end in ("low", "high")
    ]
    values += [
        {key: value}
        for key, parameter in spec.space.items()
        for value in [*getattr(parameter, "choices", []), *getattr(parameter, "values", [])]
    ]
    for params in [*values, *(queued.params for queued in spec.enqueue)]:
        parse(entry.config, {**spec.trainer.settings, **params})


def test_the_suite_can_be_trained_with_each_optimizer() -> None:
    from trainers.registry import create
    from workers.execution import workloads

    spec = spec_of("suite.yaml")
    rates = [name for name in spec.space if name.startswith("lr/")]
    assert len(rates) == 4
    for name in rates:
        params = {"optimizer": name.partition("/")[2], name: spec.space[name].low}
        config = {**spec.trainer.settings, **params}
        job = Job(config, 0, spec.fidelity.max, 1, workloads=workloads(spec.trainer))
        (point,) = create("suite", job).train(1)
        assert 1 < point.metrics["score"] < 2


def test_the_default_recipe_is_far_from_what_can_be_had() -> None:
    """At the first rung already: the demonstration has something to find."""
    from trainers.registry import create

    spec = spec_of("gpt-lr.yaml")
    (default,) = (queued for queued in spec.enqueue if queued.label == "default")
    assert default.to_end

    def loss(params: dict[str, bool | int | float | str]) -> float:
        job = Job({**spec.trainer.settings, **params}, 0, spec.fidelity.max, spec.fidelity.min)
        (point,) = create("gpt", job).train(spec.fidelity.min)
        return point.metrics["val_loss"]

    assert loss({**default.params, "lr": 5e-3}) < loss(default.params) - 0.5
