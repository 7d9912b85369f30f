"""Optimizers by name: each one that is listed trains, and goes on from a checkpoint as if nothing had
been."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from trainers.base import InvalidConfigurationError, Job
from trainers.digits_config import DigitsConfig
from trainers.optimizers.build import find, hidden_matrices
from trainers.optimizers.optimization import Optimization
from trainers.optimizers.own import AdamS, MeZO, RandomScalingSGDM, clip_coordinates
from trainers.optimizers.table import COMMON, LISTED, NOT_LISTED, Needs, Package
from trainers.registry import create
from trainers.settings import parse

STEPS, CUT = 6, 3


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Some packages tell each user how to use them better."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


class Small:
    """A small training without a trainer: a net with an 8-bit-sized matrix on fixed random batches."""

    def __init__(self, optimizer: str, total: int = STEPS, **config: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(8, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
        )
        self.config = parse(DigitsConfig, {"optimizer": optimizer, "clip": 0.0, **config})
        self.optimization = Optimization(self.model, self.config, seed=3, total=total)
        self.total = total
        self.done = 0

    def loss(self, step: int) -> Tensor:
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(32, 8, generator=draw)
        return F.cross_entropy(self.model(x), x[:, :4].argmax(1))

    def gradient(self) -> Tensor:
        loss = self.loss(self.done)
        if self.optimization.needs is not Needs.NO_GRADIENT:
            loss.backward(create_graph=self.optimization.needs is Needs.SECOND_DERIVATIVES)
        return loss.detach()

    def train(self, until: int, lr: float | None = None) -> list[float]:
        losses = []
        while self.done < until:
            rate = self.config.peak_lr * (1 - self.done / (self.total + 1)) if lr is None else lr
            losses.append(float(self.optimization.step(self.done, rate, self.gradient)))
            self.done += 1
        return losses

    def weights(self) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in self.model.parameters()])

    def evaluated(self) -> float:
        with self.optimization.evaluated(), torch.no_grad():
            return float(self.loss(10**6))

    def resumed(self, **changes: Any) -> Small:
        """Another one that has taken up this one's saved state, read as checkpoints are."""
        file = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimization.state()}, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        config = {name: getattr(self.config, name) for name in ("optimizer", *WRAPPED, *COMMON)}
        given = {name: value for name, value in (config | changes).items() if value is not None}
        other = Small(given.pop("optimizer"), self.total, **given)
        other.model.load_state_dict(state["model"])
        other.optimization.load(state["optimizer"])
        other.done = self.done
        torch.manual_seed(99)  # nothing may hang on generators that are not saved
        return other


WRAPPED = ("sam", "lookahead", "average", "ema_decay", "swa_start")


@pytest.mark.parametrize("name", LISTED)
def test_saved_anywhere_and_resumed_it_is_the_same_to_the_bit(name: str) -> None:
    whole, first = Small(name), Small(name)
    losses = whole.train(STEPS)
    before = whole.weights()
    found = first.train(CUT)
    first.evaluated()  # looking changes nothing, though some train other weights than they show
    second = first.resumed()
    found += second.train(STEPS)
    assert found == losses
    assert torch.equal(second.weights(), before)
    assert second.evaluated() == whole.evaluated()
    assert torch.equal(whole.weights(), before)
    assert not torch.equal(before, Small(name).weights())


@pytest.mark.parametrize("name", LISTED)
def test_it_learns_at_its_own_rate(name: str) -> None:
    steps = 20
    training = Small(name, steps)
    at_first = training.evaluated()
    training.train(steps)
    assert training.evaluated() < at_first


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_a_transformer_is_resumed_to_the_bit(name: str, tmp_path: Path) -> None:
    config = {
        "width": 64, "depth": 1, "heads": 2, "context": 16, "batch_size": 8, "dropout": 0.1,
        "max_bytes": 50_000, "eval_batches": 1, "device": "cpu", "optimizer": name,
    }  # fmt: skip
    job = Job(config, 7, max_step=30, report_every=5)
    whole = create("gpt", job)
    losses = [point.metrics["val_loss"] for point in whole.train(30)]
    first = create("gpt", job)
    found = [point.metrics["val_loss"] for point in first.train(13)]
    first.save(tmp_path)
    second = create("gpt", job)
    second.load(tmp_path)
    found += [point.metrics["val_loss"] for point in second.train(30)]
    assert found == losses
    assert losses[-1] < losses[0]


def test_every_optimizer_of_the_packages_is_listed_or_said_why_not() -> None:
    import dog
    from pytorch_optimizer import get_supported_optimizers

    theirs = {name for name, kind in vars(optim).items() if inspect.isclass(kind)} - {"Optimizer"}
    assert theirs == {facts.called for facts in LISTED.values() if facts.package is Package.TORCH} | {
        "SparseAdam"
    }
    registered = {name for name in get_supported_optimizers() if not hasattr(optim, _torch_name(name))}
    listed = {facts.called for facts in LISTED.values() if facts.package is Package.PYTORCH_OPTIMIZER}
    assert registered | _SAME_NAME == listed | set(NOT_LISTED) - {"sparseadam"}
    assert not listed & set(NOT_LISTED)
    assert {"DoG", "LDoG"} <= set(vars(dog))


_SAME_NAME = {"asgd", "adadelta", "adafactor", "adamax", "muon", "radam"}
"""Where the registry has an implementation of its own under a name of torch's."""


def _torch_name(name: str) -> str:
    names = {each.lower(): each for each in vars(optim)}
    return names.get(name, "-")


@pytest.mark.parametrize("name", LISTED)
def test_the_settings_that_it_uses_reach_it(name: str) -> None:
    facts = LISTED[name]
    assert set(facts.uses) <= set(COMMON)
    assert 0 < facts.low <= facts.lr <= facts.high <= 1000
    parameters = inspect.signature(find(name)).parameters
    beta = "betas" in parameters
    for setting in set(facts.uses) - {"weight_decay"}:
        assert setting in parameters or (beta and setting in ("beta1", "beta2"))
    given = {"beta1": 0.8, "beta2": 0.9, "momentum": 0.7, "eps": 1e-4, "weight_decay": 0.03}
    usual = Small(name)
    changed = Small(name, **{setting: given[setting] for setting in facts.uses})
    for setting in facts.uses:
        assert changed.config.hyperparameters[setting] == given[setting]
    usual.train(CUT)
    changed.train(CUT)
    assert bool(facts.uses) != torch.equal(usual.weights(), changed.weights())


def test_settings_written_for_one_optimizer_are_its_alone() -> None:
    config = {"lr/sgd": 0.3, "lr/nadamw": 0.01, "momentum/sgd": 0.5, "lr": 7.0}
    assert parse(DigitsConfig, {**config, "optimizer": "sgd"}).peak_lr == 0.3
    assert parse(DigitsConfig, config).peak_lr == 0.01
    assert parse(DigitsConfig, {**config, "optimizer": "lion"}).peak_lr == 7.0
    assert parse(DigitsConfig, {**config, "optimizer": "sgd"}).hyperparameters["momentum"] == 0.5
    with pytest.raises(InvalidConfigurationError, match="lr/sdg: no such setting"):
        parse(DigitsConfig, {"lr/sdg": 0.3})


def test_the_default_is_nadam_with_decoupled_decay() -> None:
    training = Small(DigitsConfig().optimizer)
    (part,) = training.optimization.parts
    assert type(part.optimizer) is optim.NAdam
    assert part.optimizer.param_groups[0]["decoupled_weight_decay"]
    assert [group["weight_decay"] for group in part.optimizer.param_groups] == [0.1, 0.0]


def test_what_is_loaded_takes_the_hyperparameters_of_the_configuration() -> None:
    first = Small("sgd", momentum=0.9)
    first.train(CUT)
    second = first.resumed(momentum=0.3, weight_decay=0.02)
    (part,) = second.optimization.parts
    assert [group["momentum"] for group in part.optimizer.param_groups] == [0.3, 0.3]
    assert [group["weight_decay"] for group in part.optimizer.param_groups] == [0.02, 0.0]
    assert part.optimizer.state  # and the momentum that had gathered is there


def test_muon_is_for_hidden_matrices_and_the_rest_has_a_lower_rate() -> None:
    training = Small("muon")
    training.optimization.step(0, 0.5, training.gradient)
    rates = {
        id(weight): group["lr"]
        for part in training.optimization.parts
        for group in part.optimizer.param_groups
        for weight in group["params"]
    }
    hidden = [rates[id(training.model[at].weight)] for at in (0, 3)]
    assert hidden == [0.5, 0.5]
    assert rates[id(training.model[5].weight)] == rates[id(training.model[0].bias)] < 0.1
    tied = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 32), nn.Linear(32, 8))
    assert hidden_matrices(tied) == {id(tied[1].weight), id(tied[2].weight)}


def test_a_momentum_means_the_same_everywhere() -> None:
    """Scion's own is the weight of what is new."""
    training = Small("scion", momentum=0.8)
    assert training.optimization.parts[0].optimizer.param_groups[0]["momentum"] == pytest.approx(0.2)


def test_a_rate_of_zero_changes_nothing() -> None:
    for name in ("ftrl", "nadamw", "prodigy"):
        training = Small(name)
        training.train(CUT)
        before = training.weights()
        training.train(STEPS, lr=0.0)
        assert torch.equal(training.weights(), before)


def one_weight(
    make: Callable[[list[nn.Parameter]], optim.Optimizer],
) -> tuple[nn.Parameter, optim.Optimizer]:
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    return weight, make([weight])


GRADIENTS = [
    torch.tensor(row, dtype=torch.float64) for row in ([1.0, -0.5, 2.0], [0.1, 3.0, -1.0], [0.0, 0.2, 0.4])
]


def test_adams_is_the_papers() -> None:
    weight, optimizer = one_weight(
        lambda params: AdamS(params, lr=0.1, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.2)
    )
    w, m = weight.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for g in GRADIENTS:
        v = 0.95 * m**2 + 0.05 * g**2
        m = 0.9 * m + 0.1 * g
        w = w - 0.1 * (m / (v.sqrt() + 1e-8) + 0.2 * w)
        weight.grad = g.clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), w, rtol=1e-12, atol=1e-12)
    assert list(optimizer.state[weight]) == ["momentum"]


def test_random_scaling_is_the_papers() -> None:
    weight, optimizer = one_weight(
        lambda params: RandomScalingSGDM(params, lr=0.1, momentum=0.9, weight_decay=0.2)
    )
    w, m = weight.detach().clone(), torch.zeros(3, dtype=torch.float64)
    for at, g in enumerate(GRADIENTS):
        torch.manual_seed(at)
        s = float(torch.empty(()).exponential_())
        m = 0.9 * m + 0.1 * g
        w = w - s * 0.1 * (m + 0.2 * w)
        torch.manual_seed(at)
        weight.grad = g.clone()
        optimizer.step()
        torch.testing.assert_close(weight.detach(), w, rtol=1e-12, atol=1e-12)


def test_mezo_is_the_papers() -> None:
    weight, optimizer = one_weight(lambda params: MeZO(params, lr=0.1, eps=1e-3, weight_decay=0.2))
    assert isinstance(optimizer, MeZO)
    target = torch.tensor([0.3, 0.1, -0.7], dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        return ((w - target) ** 2).sum()

    w = weight.detach().clone()
    for at in range(3):
        torch.manual_seed(at)
        seed = int(torch.randint(2**62, ()))
        z = torch.randn(3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        slope = float(loss(w + 1e-3 * z) - loss(w - 1e-3 * z)) / 2e-3
        w = w - 0.1 * (slope * z + 0.2 * w)
        torch.manual_seed(at)
        optimizer.step(lambda: loss(weight))
        torch.testing.assert_close(weight.detach(), w, rtol=1e-9, atol=1e-9)
    assert not optimizer.state


@pytest.mark.parametrize(("quantile", "bound"), [(1.0, 6.0), (0.5, 3.0), (0.51, 4.0), (0.0, 1.0)])
def test_coordinates_are_cut_at_the_quantile_of_all(quantile: float, bound: float) -> None:
    weights = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    weights[0].grad = torch.tensor([[1.0, -2.0], [3.0, -6.0]])
    weights[1].grad = torch.tensor([-4.0, 5.0])
    expected = [weight.grad.clamp(-bound, bound) for weight in weights if weight.grad is not None]
    clip_coordinates(weights, quantile)
    for weight, cut in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, cut)


def test_sam_takes_the_gradient_where_the_loss_is_highest_nearby() -> None:
    rate, radius = 0.1, 0.3
    training = Small("sgd", sam=radius, momentum=0.0, weight_decay=0.0)
    plain = Small("sgd")
    gradients = torch.autograd.grad(plain.loss(0), list(plain.model.parameters()))
    norm = torch.sqrt(sum(((g**2).sum() for g in gradients), torch.tensor(0.0)))
    before = [weight.detach().clone() for weight in plain.model.parameters()]
    with torch.no_grad():
        for weight, g in zip(plain.model.parameters(), gradients, strict=True):
            weight += radius * g / norm
    uphill = torch.autograd.grad(plain.loss(0), list(plain.model.parameters()))
    training.train(1, lr=rate)
    for weight, start, g in zip(training.model.parameters(), before, uphill, strict=True):
        torch.testing.assert_close(weight.detach(), start - rate * g, rtol=1e-4, atol=1e-6)


def test_lookahead_goes_half_of_the_way_back() -> None:
    plain, training = Small("sgd"), Small("sgd", lookahead=3)
    start = plain.weights()
    plain.train(3, lr=0.1)
    training.train(2, lr=0.1)
    training = training.resumed()
    training.train(3, lr=0.1)
    torch.testing.assert_close(training.weights(), (start + plain.weights()) / 2)


def test_averages_are_evaluated_and_not_trained() -> None:
    plain = Small("sgd")
    ema = Small("sgd", average="ema", ema_decay=0.6)
    swa = Small("sgd", average="swa", swa_start=0.5)
    path = []
    for step in range(1, STEPS + 1):
        for training in (plain, ema, swa):
            training.train(step, lr=0.1)
        path.append(plain.weights())
        ema, swa = ema.resumed(), swa.resumed()
    moving = path[0]
    for count, weights in enumerate(path[1:], 2):
        moving = torch.lerp(moving, weights, max(0.4, 1 / count))
    for training, expected in ((ema, moving), (swa, torch.stack(path[STEPS // 2 :]).mean(0))):
        assert torch.equal(training.weights(), plain.weights())
        with training.optimization.evaluated():
            torch.testing.assert_close(training.weights(), expected)
        assert torch.equal(training.weights(), plain.weights())


@pytest.mark.parametrize("name", ["lbfgs", "alig", "mezo"])
def test_sam_is_refused_round_what_evaluates_as_it_likes(name: str) -> None:
    with pytest.raises(InvalidConfigurationError, match="sam: does not go round"):
        parse(DigitsConfig, {"optimizer": name, "sam": 0.1})


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InvalidConfigurationError, match="adamw8bit is one of the package bitsandbytes"):
        Small("adamw8bit")
