"""All that is said to Ax: a study in, suggestions with predictions out.

The space is given to Ax dimension by dimension: a float as its coordinate in the unit interval (which
holds its scale), a log integer as an integer on the log scale, every other ordered domain as the integer
index of its value, an unordered one as a choice. The shares of a simplex are given but for the last,
with their sum bounded, and linear inequalities with them; what else a space may say Ax cannot hold
(:func:`search.strategies.bo.beyond_ax`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.exceptions.core import SearchSpaceExhausted

from search.domains import Choice, Fixed, ParamValue, Real, RealGrid, Whole, value_at
from search.space import SearchSpace
from search.threads import one_thread

Params = Mapping[str, ParamValue]
AxParams = dict[str, float | int | str]

_METRIC = "loss"

_QUICKER_WALK = {"optimizer_kwargs": {"options": {"n_burnin": 200, "n_thinning": 2}}}
"""Steps of BoTorch's walk through constraints to the points from which its optimizer starts. Its defaults
of 10,000 and 32, for each combination of discrete values, would cost most of a minute."""
_ENUMERATED = 10
"""Combinations of discrete values up to which BoTorch optimizes for each of them."""


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
            [_parameter(space, name, ax_name) for name, ax_name in names.items()],
            parameter_constraints=_constraints(space, names),
        )
        client.configure_optimization(f"-{_METRIC}")
        client.configure_generation_strategy(
            "fast", initialization_budget=0, initialize_with_center=False, torch_device="cpu"
        )
        if _walks(space):
            for node in client._generation_strategy._nodes:
                for spec in node.generator_specs:
                    spec.generator_gen_kwargs["model_gen_options"] = _QUICKER_WALK
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


def _walks(space: SearchSpace) -> bool:
    """Whether BoTorch takes that walk; its optimizers for many discrete values know no such option."""
    sizes = [space.by_name[name].domain.size for name in _searched(space)]
    finite = [size for size in sizes if size is not None]
    few = math.prod(finite) <= _ENUMERATED and len(finite) < len(sizes)
    return few and bool(space.constraints or space.simplexes)


def _searched(space: SearchSpace) -> list[str]:
    """The parameters with more than one value, without the last share of each simplex."""
    last = {simplex.shares[-1] for simplex in space.simplexes}
    return [p.name for p in space.parameters if p.domain.size != 1 and p.name not in last]


def _shares(space: SearchSpace) -> set[str]:
    return {share for simplex in space.simplexes for share in simplex.shares}


def _parameter(
    space: SearchSpace, own_name: str, name: str
) -> RangeParameterConfig | ChoiceParameterConfig:
    domain = space.by_name[own_name].domain
    if isinstance(domain, Real) and own_name in _shares(space):
        return RangeParameterConfig(name=name, bounds=(domain.low, domain.high), parameter_type="float")
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


def _constraints(space: SearchSpace, names: Mapping[str, str]) -> list[str]:
    """The linear inequalities in Ax's parameters and words."""
    written = []
    for simplex in space.simplexes:
        given = [names[share] for share in simplex.shares if share in names]
        if given:
            written.append(f"{' + '.join(given)} <= {1 - simplex.low!r}")
    for constraint in space.constraints:
        sign = -1.0 if constraint.relation == ">=" else 1.0
        slopes: dict[str, float] = {}
        bound = sign * constraint.bound
        for name, coefficient in constraint.terms:
            offset, terms = _affine(space, names, name)
            bound -= sign * coefficient * offset
            for ax_name, unit in terms.items():
                slopes[ax_name] = slopes.get(ax_name, 0.0) + sign * coefficient * unit
        size = max(map(abs, slopes.values()), default=0.0)
        if size > 0:
            left = " + ".join(f"{slope / size!r} * {name}" for name, slope in slopes.items() if slope)
            written.append(f"{left} <= {bound / size!r}")
    return written


def _affine(space: SearchSpace, names: Mapping[str, str], name: str) -> tuple[float, dict[str, float]]:
    """A parameter's value as an offset and multiples of Ax's parameters."""
    domain = space.by_name[name].domain
    if name in names and name in _shares(space):
        return 0.0, {names[name]: 1.0}
    if name in names and isinstance(domain, Real):
        return domain.low, {names[name]: domain.high - domain.low}
    if name in names and isinstance(domain, RealGrid | Whole):
        return float(domain.low), {names[name]: float(domain.step)}
    for simplex in space.simplexes:
        if name == simplex.shares[-1] and domain.size != 1:
            return 1.0, {names[share]: -1.0 for share in simplex.shares[:-1]}
    return float(value_at(domain, 0)), {}


def _to_ax(space: SearchSpace, names: Mapping[str, str], params: Params) -> AxParams:
    point: AxParams = {}
    shares = _shares(space)
    for name, ax_name in names.items():
        domain, value = space.by_name[name].domain, params[name]
        if name in shares:
            point[ax_name] = float(value)
        elif isinstance(domain, Real):
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
    shares = _shares(space)
    for p in space.parameters:
        domain = p.domain
        if p.name in shares:
            params[p.name] = domain.decode(0.0)  # Holds the place; set below.
        elif p.name not in names or isinstance(domain, Fixed):
            params[p.name] = value_at(domain, 0)
        elif isinstance(domain, Real):
            params[p.name] = domain.decode(float(point[names[p.name]]))
        elif isinstance(domain, Whole) and domain.log:
            params[p.name] = int(point[names[p.name]])
        else:
            params[p.name] = value_at(domain, int(point[names[p.name]]))
    for simplex in space.simplexes:
        given = [float(point[names[share]]) for share in simplex.shares if share in names]
        if given:
            sizes = np.array([*given, 1 - sum(given)]) - simplex.low
            shares_of = simplex.rounded(np.clip(sizes, 0.0, None)[None])[0].tolist()
            params.update(zip(simplex.shares, shares_of, strict=True))
    return params


@contextmanager
def _quiet_and_single_threaded() -> Iterator[None]:
    """One thread, and no log line for every trial."""
    logger = logging.getLogger("ax.api.client")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
