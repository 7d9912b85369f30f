"""From the wire's study specification to the objects of search, and what search says against it."""

from __future__ import annotations

from search import strategies
from search.along import OPTION, Along
from search.emptiness import why_empty
from search.errors import Mistake, SearchError
from search.space import SearchSpace
from search.strategies.base import Strategy
from search.strategies.scaling import SIZE, Scaling
from search.view import Fidelity, Limit, Objective, StudyView
from service.errors import InvalidError
from trimtab.catalogue import entry_of
from trimtab.wire import linear
from trimtab.wire.problems import FieldProblem
from trimtab.wire.study import Direction, MedianRule, PredictedRule, StudySpec

BELIEVED = ("near", "between", "factor", "sd")


def space(spec: StudySpec) -> SearchSpace:
    """The search space; raises :class:`SearchError` for what makes no sense."""
    dumped = spec.model_dump(mode="json", include={"space", "forbid"})
    constraints = [linear.parse(text) for text in spec.constraints]
    for parameter in dumped["space"].values():
        if parameter.get("belief"):
            # Search is told what a law has said, not who said it.
            parameter["belief"] = {name: parameter["belief"][name] for name in BELIEVED}
    return SearchSpace.from_json(
        dumped["space"],
        [{"terms": c.terms, "relation": c.relation, "bound": c.bound} for c in constraints],
        dumped["forbid"],
    )


def fidelity(spec: StudySpec) -> Fidelity:
    """What a trial is paid in."""
    return Fidelity(
        min=spec.fidelity.min,
        max=spec.fidelity.max,
        report_every=spec.fidelity.report_every,
        unit=spec.fidelity.unit,
    )


def objectives(spec: StudySpec) -> tuple[Objective, ...]:
    """The further objectives, beside the metric."""
    return tuple(Objective(each.name, each.direction is Direction.MAXIMIZE) for each in spec.objectives)


def limits(spec: StudySpec) -> tuple[Limit, ...]:
    """What metrics must keep."""
    return tuple(Limit(each.metric, each.bound, each.upper) for each in spec.limits)


def strategy(spec: StudySpec) -> Strategy:
    """The strategy, made for this space and fidelity; raises :class:`SearchError` if it cannot be."""
    return strategies.create(spec.strategy.name, spec.strategy.options, space(spec), fidelity(spec))


def first_target(spec: StudySpec) -> int:
    """The step to which an enqueued configuration is trained first, unless it goes to the end."""
    return strategy(spec).first_target(fidelity(spec))


def view_parts(spec: StudySpec) -> StudyView:
    """The study as search sees it before its first trial, with nothing spent."""
    return StudyView(
        space=space(spec),
        fidelity=fidelity(spec),
        maximize=spec.metric.direction is Direction.MAXIMIZE,
        strategy=spec.strategy.name,
        options=dict(spec.strategy.options),
        parallelism=spec.parallelism,
        seed=spec.seeds.search,
        prune=spec.prune,
        objectives=objectives(spec),
        limits=limits(spec),
        tuning_seeds=tuple(spec.seeds.tuning) if spec.seeds.several else (),
        finalists=spec.seeds.finalists if spec.seeds.test else 0,
        inherited=inherited(spec),
    )


def inherited(spec: StudySpec) -> frozenset[str]:
    """The parameters that a fork cannot change. Of a script nothing is known: it may change them all."""
    entry = entry_of(spec.trainer)
    settings = [] if entry is None else [entry.setting(name) for name in spec.space]
    return frozenset(setting.name for setting in settings if setting is not None and not setting.fork)


def _uneven(spec: StudySpec) -> list[Mistake]:
    """Stopping rules that would hold the curves of unequal trainings against each other."""
    option = SIZE if spec.strategy.name == Scaling.name else OPTION
    if option not in spec.strategy.options:
        return []
    return [
        Mistake(
            f"/stopping/{index}",
            f"the {rule.rule} rule compares curves, and trials at different values of "
            f"{spec.strategy.options[option]} cannot be compared",
            "leave it out; rules of one curve, such as divergence and patience, may stay",
        )
        for index, rule in enumerate(spec.stopping)
        if isinstance(rule, MedianRule | PredictedRule)
    ]


def _unlawful(spec: StudySpec) -> list[Mistake]:
    """What a scaling study cannot have beside its law."""
    if spec.strategy.name != Scaling.name:
        return []
    mistakes = []
    if spec.metric.direction is Direction.MAXIMIZE:
        message = "scaling fits laws of a loss, which is minimized"
        mistakes.append(Mistake("/metric/direction", message, "name a loss as the metric"))
    if spec.prune:
        message = "scaling needs the whole space: no size and no length may be frozen"
        mistakes.append(Mistake("/prune", message, "leave it out"))
    if spec.warm_start.studies:
        message = "scaling plans all of its trials itself, and does not learn from other studies"
        hint = "import their trials into this study, or enqueue configurations: both count in the fit"
        mistakes.append(Mistake("/warm_start/studies", message, hint))
    return mistakes


def _nothing_counts(spec: StudySpec, searched: SearchSpace) -> list[Mistake]:
    """Constraints that leave no configuration at the value that counts of a parameter like model size."""
    along = Along.read(spec.strategy.options, searched)
    if along is None or not why_empty(along.at_target):
        return []
    return [
        Mistake(
            f"/strategy/options/{OPTION}",
            f"no legal configuration has {along.name} {along.target}, its highest value, where the best is "
            "sought",
            "lower its upper end, or loosen the constraints",
        )
    ]


def _nothing_to_fork_for(spec: StudySpec, searched: SearchSpace) -> list[Mistake]:
    """A strategy that forks, in a space of which no fork can change anything."""
    kept = [name for name in searched.dimensions if name in inherited(spec)]
    if not strategies.forks(spec.strategy.name) or len(kept) < len(searched.dimensions) or not kept:
        return []
    return [
        Mistake(
            "/strategy/name",
            f"{spec.strategy.name} forks trials with changed parameters, and a fork can change none of "
            f"these: a checkpoint fits one value of {', '.join(kept)}",
            "search a parameter that may change while a model trains, such as lr, too; or use asha",
        )
    ]


def check(spec: StudySpec) -> None:
    """Raise :class:`InvalidError` naming every field that search cannot do, all at once."""
    mistakes: list[Mistake] = []
    try:
        searched = space(spec)
    except SearchError as error:
        mistakes += error.mistakes
    else:
        empty = why_empty(searched)
        mistakes += empty
        try:
            strategies.create(spec.strategy.name, spec.strategy.options, searched, fidelity(spec))
        except SearchError as error:
            mistakes += error.mistakes
        else:
            mistakes += [] if empty else _nothing_counts(spec, searched)
            mistakes += _nothing_to_fork_for(spec, searched)
        mistakes += [*_uneven(spec), *_unlawful(spec)]
        for index, queued in enumerate(spec.enqueue):
            mistakes += (
                Mistake(f"/enqueue/{index}/params{m.pointer}", m.message, m.suggestion)
                for m in searched.check(queued.params)
            )
    if spec.warm_start.function is not None:
        message = "is the user's own code, which the client runs at submission, never the service"
        hint = "submit the file with trimtab submit, or name the configurations under enqueue"
        mistakes.append(Mistake("/warm_start/function", message, hint))
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise InvalidError(
            f"the study has {count} that search cannot work with",
            [FieldProblem(pointer=m.pointer, message=m.message, suggestion=m.suggestion) for m in mistakes],
        )
