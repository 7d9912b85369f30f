"""All that is said to Ax: a study in, suggestions with predictions out.

The space is given to Ax dimension by dimension: a float as its coordinate in the unit interval (which
holds its scale), a log integer as an integer on the log scale, every other ordered domain as the integer
index of its value, an unordered one as a choice. Every point that Ax can name is thus legal.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.exceptions.core import SearchSpaceExhausted

from search.domains import Choice, Domain, Fixed, ParamValue, Real, RealGrid, Whole, value_at
from search.space import SearchSpace

Params = Mapping[str, ParamValue]
AxParams = dict[str, float | int | str]

_METRIC = "loss"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A configuration that Ax picked; mean and standard deviation of its loss under the model."""

    params: Params
    mean: float
    sd: float
    by_model: bool
    """False where Ax fell back on a Sobol point, since its optimum was tried already."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How the model was fitted."""

    model: str
    fit_seconds: float
    generate_seconds: float
    predicted_means: tuple[float, ...]
    """Of the observed configurations, in their order."""


def suggest(
    space: SearchSpace,
    observed: Sequence[tuple[Params, float]],
    pending: Sequence[Params],
    failed: Sequence[Params],
    count: int,
    noise_sd: float | None,
    seed: int,
) -> tuple[list[Suggestion], Fit]:
    """At most ``count`` configurations to evaluate next, to minimise a loss.

    ``observed`` holds losses on a scale of about one; ``noise_sd`` is on the same scale, None to infer
    it. The global random states of Python, numpy and torch are left as they were.
    """
    with _quiet_and_single_threaded():
        names = {name: f"p{i}" for i, name in enumerate(_searched(space))}
        client = Client(random_seed=seed)
        client.configure_experiment(
            [_parameter(space.by_name[name].domain, ax_name) for name, ax_name in names.items()]
        )
        client.configure_optimization(f"-{_METRIC}")
        client.configure_generation_strategy(
            "fast", initialization_budget=0, initialize_with_center=False, torch_device="cpu"
        )
        points = [_to_ax(space, names, params) for params, _ in observed]
        for point, (_, loss) in zip(points, observed, strict=True):
            index = client.attach_trial(point)
            client.complete_trial(index, {_METRIC: loss if noise_sd is None else (loss, noise_sd)})
        for params in pending:
            client.attach_trial(_to_ax(space, names, params))
        for params in failed:
            client.mark_trial_failed(client.attach_trial(_to_ax(space, names, params)))

        picked: dict[int, Any] = {}
        # One at a time: in a small finite space Ax gives up on the whole batch if the last is missing.
        with suppress(SearchSpaceExhausted):
            while len(picked) < count:
                picked |= client.get_next_trials(max_trials=1)
        runs = [client._experiment.trials[index].generator_runs[0] for index in picked]
        predictions = client.predict([*picked.values(), *points])
    suggestions = [
        Suggestion(
            _from_ax(space, names, point),
            float(prediction[_METRIC][0]),
            float(prediction[_METRIC][1]),
            "Sobol" not in str(run._generator_key),
        )
        for point, prediction, run in zip(picked.values(), predictions, runs, strict=False)
    ]
    fit = Fit(
        model=str(runs[0]._generator_key) if runs else "",
        fit_seconds=sum(run.fit_time or 0.0 for run in runs),
        generate_seconds=sum(run.gen_time or 0.0 for run in runs),
        predicted_means=tuple(float(p[_METRIC][0]) for p in predictions[len(picked) :]),
    )
    return suggestions, fit


def _searched(space: SearchSpace) -> list[str]:
    """The parameters with more than one value."""
    return [p.name for p in space.parameters if p.domain.size != 1]


def _parameter(domain: Domain, name: str) -> RangeParameterConfig | ChoiceParameterConfig:
    if isinstance(domain, Real):
        return RangeParameterConfig(name=name, bounds=(0.0, 1.0), parameter_type="float")
    if isinstance(domain, Whole) and domain.log:
        return RangeParameterConfig(
            name=name, bounds=(domain.low, domain.high), parameter_type="int", scaling="log"
        )
    if isinstance(domain, Choice) and domain.kind != "ordered":
        return ChoiceParameterConfig(
            name=name,
            values=[str(i) for i in range(domain.size)],
            parameter_type="str",
            is_ordered=False,
        )
    return RangeParameterConfig(name=name, bounds=(0, domain.size - 1), parameter_type="int")


def _to_ax(space: SearchSpace, names: Mapping[str, str], params: Params) -> AxParams:
    point: AxParams = {}
    for name, ax_name in names.items():
        domain, value = space.by_name[name].domain, params[name]
        if isinstance(domain, Real):
            point[ax_name] = domain.encode(value)
        elif isinstance(domain, Whole):
            point[ax_name] = int(value) if domain.log else (int(value) - domain.low) // domain.step
        elif isinstance(domain, RealGrid):
            point[ax_name] = domain.index(float(value))
        elif isinstance(domain, Choice):
            index = domain.index(value)
            assert index is not None, f"{name} has the illegal value {value!r}"
            point[ax_name] = index if domain.kind == "ordered" else str(index)
    return point


def _from_ax(space: SearchSpace, names: Mapping[str, str], point: Mapping[str, Any]) -> Params:
    params: dict[str, ParamValue] = {}
    for p in space.parameters:
        domain = p.domain
        if p.name not in names or isinstance(domain, Fixed):
            params[p.name] = value_at(domain, 0)
        elif isinstance(domain, Real):
            params[p.name] = domain.decode(float(point[names[p.name]]))
        elif isinstance(domain, Whole) and domain.log:
            params[p.name] = int(point[names[p.name]])
        else:
            params[p.name] = value_at(domain, int(point[names[p.name]]))
    return params


@contextmanager
def _quiet_and_single_threaded() -> Iterator[None]:
    """One torch thread (sums in one order, no fight for cores), and no log line for every trial."""
    logger = logging.getLogger("ax.api.client")
    threads, level = torch.get_num_threads(), logger.level
    torch.set_num_threads(1)
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        logger.setLevel(level)
