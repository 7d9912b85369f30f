"""From a name to torch optimizers over the parameters of a model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn, optim

from trainers.base import InvalidConfigurationError
from trainers.optimizers import own
from trainers.optimizers.table import LISTED, Facts, Needs, Package

Group = dict[str, Any]

OWN: Mapping[str, type[optim.Optimizer]] = {
    "adams": own.AdamS,
    "rs-sgdm": own.RandomScalingSGDM,
    "mezo": own.MeZO,
}


@dataclass(frozen=True)
class Part:
    """A torch optimizer, and the share of the learning rate that each of its groups gets."""

    optimizer: optim.Optimizer
    shares: tuple[float, ...]
    rate: str = "lr"
    """What its groups call the learning rate."""

    def set_lr(self, lr: float) -> None:
        """Make the next step with this learning rate."""
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group[self.rate] = lr * share


def build(
    model: nn.Module,
    name: str,
    lr: float,
    hyperparameters: Mapping[str, float],
    total: int,
    rates: Mapping[str, float],
) -> tuple[Part, ...]:
    """The optimizer ``name``, over all parameters of ``model`` that are trained.

    Only matrices decay: gains and biases have no scale that ought to shrink.

    :param lr: peak learning rate
    :param hyperparameters: by their common names (:data:`trainers.optimizers.table.COMMON`); of those that
        are not given, and do not concern the weight decay, the package's defaults hold
    :param total: steps of a full training
    :param rates: by the names of parameters, multiples of the learning rate where they are not 1; weight
        decay is divided by them. Only for optimizers that have a family
    :raises InvalidConfigurationError: its package is not installed
    """
    facts = LISTED[name]
    kind = find(name)
    keywords = _keywords(name, kind, hyperparameters)
    decay = hyperparameters.get("weight_decay", 0.0)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if facts.needs in (Needs.HIDDEN_MATRICES, Needs.ONLY_MATRICES):
        return _muon(model, weights, kind, facts, lr, decay, keywords)
    if facts.needs is Needs.ONE_GROUP:
        return (_part(kind, weights, {"lr": lr, **keywords}),)
    if facts.needs is Needs.TOTAL:
        keywords["num_iterations"] = total
    if "lr_1d" in inspect.signature(kind).parameters:
        keywords["lr_1d"] = lr
    if facts.needs is Needs.MODEL:
        return (_part(kind, model, {"lr": lr, "weight_decay": decay, **keywords}),)
    decays = decay if "weight_decay" in facts.uses else None
    if not rates:
        return (_part(kind, _groups(weights, decays), {facts.rate: lr, **keywords}, facts.rate),)
    groups: list[Group] = []
    shares: list[float] = []
    named = [(rates.get(name, 1.0), weight) for name, weight in model.named_parameters()]
    for rate in sorted({rate for rate, weight in named if weight.requires_grad}):
        its = [weight for own, weight in named if own == rate and weight.requires_grad]
        for group in _groups(its, None if decays is None else decays / rate):
            groups.append({**group, facts.rate: lr * rate})
            shares.append(rate)
    return (Part(kind(groups, **{facts.rate: lr, **keywords}), tuple(shares), facts.rate),)


def _groups(weights: list[nn.Parameter], decay: float | None) -> list[Group]:
    """Matrices, which decay, and the rest, which do not; None: the optimizer knows no decay."""
    if decay is None:
        return [{"params": weights}]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _muon(
    model: nn.Module,
    weights: list[nn.Parameter],
    kind: type[optim.Optimizer],
    facts: Facts,
    lr: float,
    decay: float,
    keywords: dict[str, Any],
) -> tuple[Part, ...]:
    """Muon for the hidden matrices; AdamW, at a share of the learning rate, for what is left."""
    hidden = hidden_matrices(model)
    matrices = [weight for weight in weights if id(weight) in hidden]
    others = _groups([weight for weight in weights if id(weight) not in hidden], decay)
    if facts.needs is Needs.ONLY_MATRICES:
        parts = [
            _part(optim.AdamW, others, {"lr": lr * facts.share, "betas": (0.9, 0.95)}, share=facts.share)
        ]
        if matrices:
            parts.append(_part(kind, matrices, {"lr": lr, "weight_decay": decay, **keywords}))
        return tuple(parts)
    groups: list[Group] = [{**group, "use_muon": False, "lr": lr * facts.share} for group in others]
    if matrices:
        groups.append({"params": matrices, "use_muon": True, "lr": lr, "weight_decay": decay})
    optimizer = kind(groups, lr=lr, **keywords)  # type: ignore[call-arg]
    return (Part(optimizer, tuple(1.0 if group["use_muon"] else facts.share for group in groups)),)


def hidden_matrices(model: nn.Module) -> set[int]:
    """Ids of the weight matrices that are neither an embedding nor the last linear layer.

    Those two, like gains and biases, are no maps between hidden states, and Muon's authors leave them to
    Adam (Jordan et al. 2024).
    """
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    left_out = {id(embedding.weight) for embedding in embeddings}
    # A last layer as wide as an embedding writes into the residual stream: the output is the embedding
    # itself.
    if linear and linear[-1].out_features not in {embedding.embedding_dim for embedding in embeddings}:
        left_out.add(id(linear[-1].weight))
    return {id(w) for w in model.parameters() if w.ndim == 2 and w.requires_grad} - left_out


def _part(
    kind: type[optim.Optimizer],
    params: Any,
    keywords: dict[str, Any],
    rate: str = "lr",
    share: float = 1.0,
) -> Part:
    """
    :param params: groups, weights, or for :attr:`Needs.MODEL` the model
    """
    optimizer = kind(params, **keywords)
    return Part(optimizer, (share,) * len(optimizer.param_groups), rate)


def find(name: str) -> type[optim.Optimizer]:
    """The class of a listed optimizer.

    :raises InvalidConfigurationError: its package is not installed
    """
    facts = LISTED[name]
    try:
        if facts.package is Package.TORCH:
            found = getattr(optim, facts.called)
        elif facts.package is Package.PYTORCH_OPTIMIZER:
            from pytorch_optimizer import load_optimizer

            found = load_optimizer(facts.called)
        elif facts.package is Package.DOG:
            import dog

            found = getattr(dog, facts.called)
        elif facts.package is Package.BITSANDBYTES:
            from bitsandbytes import optim as eight_bit

            found = getattr(eight_bit, facts.called)
        else:
            found = OWN[name]
    except ImportError as error:
        raise InvalidConfigurationError(
            f"optimizer: {name} is one of the package {facts.package.value}, which is not installed here: "
            f"{error}"
        ) from error
    kind: type[optim.Optimizer] = found
    return kind


def _keywords(
    name: str, kind: type[optim.Optimizer], hyperparameters: Mapping[str, float]
) -> dict[str, Any]:
    """The constructor's arguments, beside weights, rate and decay."""
    parameters = inspect.signature(kind).parameters
    found: dict[str, Any] = dict(LISTED[name].options)
    if "weight_decouple" in parameters:
        found["weight_decouple"] = True
    for setting in ("momentum", "eps"):
        if setting in hyperparameters:
            found[setting] = hyperparameters[setting]
    if name == "scion" and "momentum" in found:
        found["momentum"] = 1 - found["momentum"]  # theirs is the weight of the newest gradient
    if {"beta1", "beta2"} & hyperparameters.keys():
        betas = list(found.get("betas", parameters["betas"].default))
        betas[0] = hyperparameters.get("beta1", betas[0])
        betas[1] = hyperparameters.get("beta2", betas[1])
        found["betas"] = tuple(betas)
    return found
