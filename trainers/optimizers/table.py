"""What is known of each optimizer, without importing it: :data:`LISTED`, and :data:`NOT_LISTED` with
reasons.

A name is listed if it trains, and resumes bit-exactly from a saved state that is read without running code
from it; a test holds that of each. Names are those of torch.optim and of pytorch-optimizer's registry in
small letters; where both have one, or the registry's is not what papers call by that name, the registry's
begins with ``po-``.

Each has a learning rate of its own, and a range in which to search: the package's default, corrected where
short trainings of small nets with sixty steps did best elsewhere, and at least a factor of ten to both
sides. Learning-rate-free methods take the rate as a multiplier of what they find: 1, searched from 0.1 to
10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any

COMMON = ("weight_decay", "beta1", "beta2", "momentum", "eps")
"""Settings that mean the same to all optimizers that use them. ``momentum``, ``beta1`` and ``beta2`` are
the share of the past that is kept."""

ADAM = ("weight_decay", "beta1", "beta2", "eps")
LION = ("weight_decay", "beta1", "beta2")
SGD = ("weight_decay", "momentum")
SGD_EPS = ("weight_decay", "momentum", "eps")
EPS = ("weight_decay", "eps")
DECAY = ("weight_decay",)

_DECAY_PER_STEP = 1e-4


class Package(Enum):
    """Where an optimizer comes from; the value is the distribution's name."""

    TORCH = "torch"
    PYTORCH_OPTIMIZER = "pytorch-optimizer"
    DOG = "dog-optimizer"
    BITSANDBYTES = "bitsandbytes"
    TRIMTAB = "trimtab"


class Needs(Enum):
    """What an optimizer needs to be built or to make a step, beyond a gradient."""

    GRADIENT = auto()
    """Nothing."""
    CLOSURE = auto()
    """A function that evaluates loss and gradient again."""
    ONE_GROUP = auto()
    """Such a function, and all weights in one group."""
    NO_GRADIENT = auto()
    """A function that evaluates the loss alone."""
    SECOND_DERIVATIVES = auto()
    """Gradients that can be differentiated."""
    HIDDEN_MATRICES = auto()
    """To be told which weights are matrices between hidden states (groups with ``use_muon``)."""
    ONLY_MATRICES = auto()
    """Those matrices alone; AdamW takes the rest."""
    MODEL = auto()
    """The model instead of its weights."""
    TOTAL = auto()
    """The number of steps of a full training."""
    NUMPY = auto()
    """Numpy's global generator."""


class Family(Enum):
    """How the length of a step depends on the size of the gradient."""

    ADAM = auto()
    """It does not: each coordinate is divided by its own running size, or only its sign counts."""
    SGD = auto()
    """Steps are as long as gradients are."""


@dataclass(frozen=True)
class Facts:
    """One optimizer."""

    package: Package
    called: str
    """Its name there."""
    lr: float
    """Learning rate where none is set."""
    low: float
    """Learning rates are searched from here ..."""
    high: float
    """... to here, on a log scale."""
    uses: tuple[str, ...]
    """Those of :data:`COMMON` that it uses; the package's defaults hold where they are not set."""
    decoupled: bool = True
    """Whether weights decay by themselves, at the learning rate; if not, the decay is added to the
    gradient."""
    decay: float | None = None
    """Weight decay where none is set. None: what decays weights by 0.0001 a step at the optimizer's own
    rate, if it is decoupled, else none."""
    needs: Needs = Needs.GRADIENT
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the constructor in place of its defaults."""
    rate: str = "lr"
    """What the constructor and the groups call the learning rate."""
    share: float = 1.0
    """AdamW's share of the learning rate, where AdamW takes the weights that are no hidden matrices."""

    @property
    def weight_decay(self) -> float:
        """Weight decay where none is set."""
        if self.decay is not None:
            return self.decay
        return _DECAY_PER_STEP / self.lr if self.decoupled else 0.0

    @property
    def once(self) -> bool:
        """Whether it takes one gradient a step, so that another may be taken for SAM."""
        return self.needs not in (Needs.CLOSURE, Needs.ONE_GROUP, Needs.NO_GRADIENT)


_torch = partial(Facts, Package.TORCH)
_po = partial(Facts, Package.PYTORCH_OPTIMIZER)
_dog = partial(Facts, Package.DOG)
_bnb = partial(Facts, Package.BITSANDBYTES)
_own = partial(Facts, Package.TRIMTAB)

LISTED: Mapping[str, Facts] = {
    "adadelta": _torch("Adadelta", 1.0, 0.1, 100.0, EPS, decoupled=False),
    "adafactor": _torch("Adafactor", 0.01, 0.001, 1.0, DECAY),
    "adagrad": _torch("Adagrad", 0.01, 0.001, 1.0, EPS, decoupled=False),
    "adam": _torch("Adam", 0.001, 0.0001, 0.1, ADAM, decoupled=False, options={"fused": True}),
    "adamax": _torch("Adamax", 0.002, 0.0001, 1.0, ADAM, decoupled=False),
    "adamw": _torch("AdamW", 0.001, 0.0001, 0.1, ADAM, options={"betas": (0.9, 0.95), "fused": True}),
    "nadamw": _torch(
        "NAdam", 0.001, 0.0001, 0.1, ADAM, options={"betas": (0.9, 0.95), "decoupled_weight_decay": True}
    ),
    "nadam": _torch("NAdam", 0.001, 0.0001, 0.1, ADAM, decoupled=False),
    "asgd": _torch("ASGD", 0.3, 0.01, 10.0, DECAY, decoupled=False),
    "lbfgs": _torch(
        "LBFGS",
        1.0,
        0.01,
        10.0,
        (),
        needs=Needs.ONE_GROUP,
        options={"max_iter": 4, "line_search_fn": "strong_wolfe"},
    ),
    "muon": _torch("Muon", 0.02, 0.001, 1.0, SGD_EPS, needs=Needs.ONLY_MATRICES, share=0.05),
    "radam": _torch("RAdam", 0.001, 0.0001, 0.1, ADAM, decoupled=False),
    "rmsprop": _torch("RMSprop", 0.001, 0.0001, 0.1, SGD_EPS, decoupled=False),
    "rprop": _torch("Rprop", 0.0003, 1e-05, 0.01, ()),
    "sgd": _torch(
        "SGD", 0.03, 0.001, 1.0, SGD, decoupled=False, decay=5e-4, options={"momentum": 0.9, "fused": True}
    ),
    "adopt": _po("adopt", 0.001, 0.0001, 0.1, ADAM),
    "apollo": _po("apollo", 0.01, 0.001, 0.1, ADAM),
    "po-asgd": _po("asgd", 0.3, 0.01, 10.0, EPS),
    "accsgd": _po("accsgd", 0.03, 0.001, 1.0, DECAY, decoupled=False),
    "ademamix": _po("ademamix", 0.001, 0.0001, 0.1, ADAM),
    "adabelief": _po("adabelief", 0.001, 0.0001, 0.1, ADAM),
    "adabound": _po("adabound", 0.001, 0.0001, 0.1, ADAM),
    "po-adadelta": _po("adadelta", 1.0, 0.1, 100.0, EPS),
    "po-adafactor": _po(
        "adafactor", 0.001, 0.0001, 0.1, LION, options={"relative_step": False, "scale_parameter": False}
    ),
    "adagc": _po("adagc", 0.001, 0.0001, 0.1, ADAM),
    "adago": _po("adago", 0.05, 0.001, 10.0, SGD_EPS, needs=Needs.HIDDEN_MATRICES, share=0.05),
    "adahessian": _po("adahessian", 0.1, 0.01, 10.0, ADAM, needs=Needs.SECOND_DERIVATIVES),
    "po-adamax": _po("adamax", 0.001, 0.0001, 0.1, ADAM),
    "adamod": _po("adamod", 0.003, 0.0003, 0.3, ADAM),
    "adamuon": _po("adamuon", 0.02, 0.001, 1.0, ADAM, needs=Needs.HIDDEN_MATRICES, share=0.05),
    "adanorm": _po("adanorm", 0.001, 0.0001, 0.1, ADAM),
    "adapnm": _po("adapnm", 0.001, 0.0001, 0.1, ADAM),
    "adasmooth": _po("adasmooth", 0.001, 0.0001, 0.1, ADAM),
    "adatam": _po("adatam", 0.0003, 1e-05, 0.01, ADAM),
    "adai": _po("adai", 0.03, 0.001, 1.0, ("weight_decay", "beta2", "eps")),
    "adalite": _po("adalite", 0.001, 0.0001, 0.1, LION),
    "adamc": _po("adamc", 0.001, 0.0001, 0.1, ADAM),
    "adamg": _po("adamg", 1.0, 0.1, 10.0, ADAM),
    "adammini": _po("adammini", 0.001, 0.0001, 0.1, ADAM, needs=Needs.MODEL),
    "adamp": _po("adamp", 0.001, 0.0001, 0.1, ADAM),
    "po-adams": _po("adams", 0.001, 0.0001, 0.1, ADAM),
    "adamwsn": _po("adamwsn", 0.001, 0.0001, 0.1, ADAM),
    "adan": _po("adan", 0.001, 0.0001, 0.1, ("weight_decay", "beta1", "eps")),
    "aggmo": _po("aggmo", 0.03, 0.001, 1.0, DECAY),
    "aida": _po("aida", 0.001, 0.0001, 0.1, ADAM),
    "alig": _po("alig", 0.03, 0.001, 1.0, ("momentum",), needs=Needs.CLOSURE, rate="max_lr"),
    "alice": _po("alice", 0.02, 0.001, 1.0, ADAM),
    "bcos": _po("bcos", 0.001, 0.0001, 0.1, EPS),
    "amos": _po("amos", 0.03, 0.001, 1.0, ("momentum", "eps")),
    "ano": _po("ano", 0.003, 0.0001, 0.1, ADAM),
    "apollodqn": _po("apollodqn", 0.01, 0.001, 0.1, EPS, decoupled=False, options={"warmup_steps": 0}),
    "avagrad": _po("avagrad", 0.1, 0.01, 10.0, ADAM),
    "came": _po("came", 0.0002, 1e-05, 0.01, LION),
    "dash": _po(
        "dash", 0.001, 0.0001, 0.1, ("weight_decay", "beta1", "beta2", "momentum", "eps"), decoupled=False
    ),
    "dadaptadagrad": _po("dadaptadagrad", 1.0, 0.1, 10.0, SGD_EPS, decay=0.0),
    "dadaptadam": _po("dadaptadam", 1.0, 0.1, 10.0, ADAM, decay=0.0),
    "dadaptadan": _po("dadaptadan", 0.1, 0.01, 10.0, ADAM, decay=0.0),
    "dadaptlion": _po("dadaptlion", 1.0, 0.1, 10.0, LION, decay=0.0),
    "dadaptsgd": _po("dadaptsgd", 1.0, 0.1, 10.0, SGD, decay=0.0),
    "diffgrad": _po("diffgrad", 0.001, 0.0001, 0.1, ADAM),
    "dualadam": _po("dualadam", 0.03, 0.001, 1.0, ADAM),
    "exadam": _po("exadam", 0.001, 0.0001, 0.01, ADAM),
    "emofact": _po("emofact", 0.001, 0.0001, 0.1, ADAM),
    "emolynx": _po("emolynx", 0.001, 0.0001, 0.1, ADAM),
    "emonavi": _po("emonavi", 0.001, 0.0001, 0.01, ADAM),
    "fadam": _po("fadam", 0.001, 0.0001, 0.1, ADAM),
    "focus": _po("focus", 0.001, 0.0001, 0.1, LION),
    "flashadamw": _po("flashadamw", 0.001, 0.0001, 0.1, ADAM),
    "fromage": _po("fromage", 0.01, 0.001, 1.0, ()),
    "grams": _po("grams", 0.001, 0.0001, 0.1, ADAM),
    "gravity": _po("gravity", 0.3, 0.01, 10.0, ()),
    "grokfastadamw": _po("grokfastadamw", 0.003, 0.0001, 0.1, ADAM),
    "kate": _po("kate", 0.0001, 1e-05, 0.01, EPS),
    "kron": _po("kron", 0.001, 0.0001, 0.1, SGD, needs=Needs.NUMPY),
    "lars": _po("lars", 1.0, 0.1, 100.0, SGD, decoupled=False),
    "laprop": _po("laprop", 0.0004, 1e-05, 0.01, ADAM),
    "lamb": _po("lamb", 0.001, 0.0001, 0.01, ADAM),
    "lion": _po("lion", 0.0001, 1e-05, 0.001, LION),
    "madgrad": _po("madgrad", 0.001, 0.0001, 0.1, SGD_EPS),
    "magma": _po("magma", 0.001, 0.0001, 0.01, DECAY),
    "mars": _po("mars", 0.003, 0.0001, 0.1, ADAM, options={"weight_decay_1d": 0.0}),
    "msvag": _po("msvag", 0.3, 0.01, 10.0, ()),
    "po-muon": _po("muon", 0.02, 0.001, 1.0, SGD, needs=Needs.HIDDEN_MATRICES, share=0.05),
    "muonclip": _po("muonclip", 0.02, 0.001, 1.0, SGD, needs=Needs.HIDDEN_MATRICES, share=0.05),
    "nero": _po("nero", 0.01, 0.001, 1.0, ("eps",)),
    "normuon": _po("normuon", 0.02, 0.001, 1.0, SGD_EPS, needs=Needs.HIDDEN_MATRICES, share=0.05),
    "novograd": _po("novograd", 0.03, 0.001, 1.0, ADAM),
    "padam": _po("padam", 0.1, 0.01, 1.0, ADAM),
    "pid": _po("pid", 0.3, 0.01, 10.0, SGD),
    "pnm": _po("pnm", 0.3, 0.01, 10.0, ("weight_decay", "beta1", "eps")),
    "prodigy": _po("prodigy", 1.0, 0.1, 10.0, ADAM, decay=0.0),
    "qhadam": _po("qhadam", 0.001, 0.0001, 0.01, ADAM),
    "qhm": _po("qhm", 0.3, 0.01, 10.0, SGD, options={"momentum": 0.9}),
    "racs": _po("racs", 0.03, 0.001, 1.0, EPS),
    "po-radam": _po("radam", 0.001, 0.0001, 0.1, ADAM),
    "ranger": _po("ranger", 0.001, 0.0001, 0.01, ADAM),
    "ranger21": _po(
        "ranger21", 0.001, 0.0001, 0.01, ADAM, needs=Needs.TOTAL, options={"disable_lr_scheduler": True}
    ),
    "rose": _po("rose", 0.001, 0.0001, 0.01, DECAY),
    "scion": _po("scion", 0.03, 0.001, 1.0, SGD, options={"norm_type": 1}),
    "sgdp": _po("sgdp", 0.03, 0.001, 1.0, SGD_EPS, options={"momentum": 0.9}),
    "sgdsai": _po("sgdsai", 0.01, 0.001, 1.0, SGD_EPS),
    "sgdw": _po("sgdw", 0.03, 0.001, 1.0, SGD, options={"momentum": 0.9}),
    "sm3": _po("sm3", 0.1, 0.01, 1.0, ("momentum", "eps")),
    "soap": _po("soap", 0.003, 0.0001, 0.1, ADAM),
    "spam": _po("spam", 0.001, 0.0001, 0.01, ADAM),
    "splus": _po("splus", 0.1, 0.01, 1.0, ADAM),
    "srmm": _po("srmm", 0.3, 0.01, 10.0, ()),
    "swats": _po("swats", 0.001, 0.0001, 0.1, ADAM),
    "sara": _po("sara", 0.001, 0.0001, 0.01, ADAM, decoupled=False),
    "schedulefreeadamw": _po("schedulefreeadamw", 0.0025, 0.0001, 0.1, ADAM),
    "schedulefreeradam": _po("schedulefreeradam", 0.0025, 0.0001, 0.1, ADAM, decoupled=False),
    "schedulefreesgd": _po("schedulefreesgd", 1.0, 0.1, 10.0, SGD_EPS, decoupled=False),
    "shampoo": _po("shampoo", 0.03, 0.001, 1.0, SGD, options={"momentum": 0.9}),
    "signsgd": _po("signsgd", 0.001, 0.0001, 0.1, SGD),
    "simplifiedademamix": _po("simplifiedademamix", 0.0003, 1e-05, 0.01, ADAM),
    "sophiah": _po("sophiah", 0.06, 0.001, 1.0, ADAM, needs=Needs.SECOND_DERIVATIVES),
    "stableadamw": _po("stableadamw", 0.001, 0.0001, 0.01, ADAM),
    "stablespam": _po("stablespam", 0.001, 0.0001, 0.01, ADAM),
    "tam": _po("tam", 0.03, 0.001, 1.0, SGD_EPS),
    "tiger": _po("tiger", 0.0005, 1e-05, 0.1, DECAY),
    "vsgd": _po("vsgd", 0.003, 0.0001, 0.1, EPS),
    "yogi": _po("yogi", 0.01, 0.001, 0.1, ADAM),
    "spectralsphere": _po("spectralsphere", 0.003, 0.0001, 0.1, SGD, needs=Needs.ONLY_MATRICES, share=0.05),
    "dog": _dog("DoG", 1.0, 0.1, 10.0, EPS, decoupled=False, decay=0.0),
    "ldog": _dog("LDoG", 1.0, 0.1, 10.0, EPS, decoupled=False, decay=0.0),
    "adams": _own("AdamS", 0.001, 0.0001, 0.01, ADAM),
    "rs-sgdm": _own("RandomScalingSGDM", 0.3, 0.01, 10.0, SGD),
    "mezo": _own("MeZO", 0.0001, 1e-07, 0.01, EPS, needs=Needs.NO_GRADIENT),
    "adam8bit": _bnb("Adam8bit", 0.001, 0.0001, 0.01, ADAM, decoupled=False),
    "adamw8bit": _bnb("AdamW8bit", 0.001, 0.0001, 0.01, ADAM),
    "lion8bit": _bnb("Lion8bit", 0.0001, 1e-05, 0.01, LION),
    "sgd8bit": _bnb("SGD8bit", 0.03, 0.001, 1.0, SGD, decoupled=False, options={"momentum": 0.9}),
    "ademamix8bit": _bnb("AdEMAMix8bit", 0.001, 0.0001, 0.01, ADAM),
    "lamb8bit": _bnb("LAMB8bit", 0.001, 0.0001, 0.01, ADAM),
    "lars8bit": _bnb("LARS8bit", 1.0, 0.1, 100.0, SGD, decoupled=False, options={"momentum": 0.9}),
    "rmsprop8bit": _bnb("RMSprop8bit", 0.01, 0.001, 0.1, SGD_EPS, decoupled=False),
    "adagrad8bit": _bnb("Adagrad8bit", 0.01, 0.001, 0.1, EPS, decoupled=False),
}
"""The optimizers that a configuration may name."""

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(
        (
            "adam", "adamw", "nadam", "nadamw", "radam", "adamax", "adabelief", "ademamix", "adopt",
            "adams", "lion", "signsgd", "adam8bit", "adamw8bit", "ademamix8bit", "lion8bit",
        ),
        Family.ADAM,
    ),
    **dict.fromkeys(("sgd", "sgdw", "rs-sgdm", "sgd8bit"), Family.SGD),
}  # fmt: skip
"""The optimizers for which muP's multipliers of the learning rate are known; for Muon's kin and others that
treat a matrix as a whole they are not these."""

_ADAM, _ADAMW = ({"beta1": 0.9, "beta2": beta2, "eps": 1e-8} for beta2 in (0.999, 0.95))
SQRT_RULE: Mapping[str, Mapping[str, float]] = {
    "adam": _ADAM, "adamw": _ADAMW, "nadam": _ADAM, "nadamw": _ADAMW, "radam": _ADAM, "adam8bit": _ADAM,
    "adamw8bit": _ADAM,
}  # fmt: skip
"""The optimizers that are Adam, for which the square-root scaling rule of learning rate, betas and eps was
derived (Malladi et al. 2022, arXiv:2205.10287), with what they have where these are not set."""

NOT_LISTED: Mapping[str, str] = {
    "sparseadam": "takes sparse gradients only, and no net here has any",
    "a2grad": "has no learning rate: neither a schedule nor a search would reach it",
    "adalomo": "changes the weights during the backward pass, before gradients are clipped or accumulated",
    "adashift": "its state holds a deque, which a checkpoint that runs no code cannot",
    "bsam": "must be told the number of training samples, which not every trainer has",
    "conda": "its state holds a projector object, which a checkpoint that runs no code cannot",
    "demo": "is for several processes that exchange gradients",
    "distributedmuon": "is Muon for several processes: muon, po-muon",
    "fira": "is plain AdamW without a rank, and with one its state cannot be saved (as conda's)",
    "ftrl": "forgets the initial weights: it starts all at zero, where a net cannot learn",
    "galore": "is plain AdamW without a rank, and with one its state cannot be saved (as conda's)",
    "lomo": "changes the weights during the backward pass, before gradients are clipped or accumulated",
    "lorarite": "is for pairs of low-rank matrices only",
    "scalableshampoo": "its state holds objects, which a checkpoint that runs no code cannot",
    "scionlight": "keeps its momentum in the gradients, which every step here computes anew",
}
"""Optimizers of torch and of pytorch-optimizer's registry that cannot be had, and why."""
