"""Settings of the trainers for tables: ``tabular`` (a net) and ``boosting`` (trees)."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.batch_sizes import BatchConfig
from trainers.settings import Config, setting
from trainers.training_config import COMMON_METRICS, TrainingConfig

TABLES = ("breast_cancer", "digits", "iris", "wine", "diabetes", "friedman")
_TABLE = (
    "Table of scikit-learn. To classify: breast_cancer, digits, iris, wine. To predict a number: diabetes, "
    "and friedman, which is drawn from a formula."
)

METRICS = {
    "val_loss": "On validation rows: cross entropy in nats, or squared error in the target's variances.",
    "accuracy": "Share of the validation rows that are classified rightly; of tables to classify.",
    "r2": "Share of the target's variance that is explained on validation rows; of tables with a number.",
    "train_loss": "The loss of the training batches since the last report, or with trees of all rows now.",
}
NET_METRICS = {
    **METRICS,
    **COMMON_METRICS,
    "weights": "Numbers that the net learns: how large it is.",
}


@dataclass(frozen=True)
class TabularConfig(TrainingConfig, BatchConfig):
    """A multi-layer perceptron on one of scikit-learn's tables; trains in seconds on one core."""

    data: str = setting("breast_cancer", _TABLE, choices=TABLES, fork=False)
    width: int = setting(64, "Units of each hidden layer.", low=1, high=65536, fork=False)
    depth: int = setting(2, "Hidden layers; with 0 the model is linear.", low=0, high=64, fork=False)
    dropout: float = setting(0.0, "Share of hidden units dropped in training.", low=0.0, high=0.9)
    batch_size: int = setting(32, "Rows per step.", low=1, high=65536)


@dataclass(frozen=True)
class BoostingConfig(Config):
    """Gradient-boosted trees on one of scikit-learn's tables. A step is a tree (one for each class), so a
    trial that goes on adds trees to those it has."""

    data: str = setting("breast_cancer", _TABLE, choices=TABLES, fork=False)
    lr: float = setting(0.1, "Shrinkage: how much of each tree's prediction is added.", low=1e-6, high=10.0)
    depth: int = setting(3, "Largest depth of a tree.", low=1, high=64)
    min_leaf: int = setting(1, "Fewest training rows in a leaf.", low=1, high=10_000)
    rows: float = setting(1.0, "Share of the training rows drawn for each tree.", low=0.01, high=1.0)
    features: float = setting(1.0, "Share of the features looked at for each split.", low=0.01, high=1.0)
