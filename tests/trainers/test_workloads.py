"""The trainers beside gpt, digits and synthetic: that they learn, and that bad input is named."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingRegressor

from tests.trainers import tiny_model
from trainers import labelled_text, rl, tables, text
from trainers.base import InvalidConfigurationError, Job, Measured
from trainers.boosting import BoostingTrainer
from trainers.images import folder as image_folder
from trainers.registry import create
from trainers.vision import VisionTrainer

CPU = {"device": "cpu"}


def last(name: str, steps: int, **config: Any) -> Measured:
    *_, point = create(name, Job(config, seed=0, max_step=steps, report_every=steps)).train(steps)
    return point


def refusal(name: str, **config: Any) -> str:
    with pytest.raises(InvalidConfigurationError) as caught:
        create(name, Job(config, 0, 10, 1))
    return str(caught.value)


SMALL_ENCODER = {**CPU, "width": 32, "depth": 1, "context": 32, "max_bytes": 60_000, "lr": 0.01}


def test_encoder_tags_better_than_by_frequency_alone() -> None:
    found = labelled_text.load("tagging", "", 60_000).validation.labels
    share = np.bincount(found, minlength=8) / len(found)
    by_frequency = -float(np.sum(share[share > 0] * np.log(share[share > 0])))
    metrics = last("encoder", 80, **SMALL_ENCODER).metrics
    assert metrics["val_loss"] < by_frequency - 0.3
    assert metrics["accuracy"] > share.max() + 0.1


def write_classes(folder: Path) -> str:
    for name, word in (("animals", "cat dog "), ("numbers", "one two ")):
        (folder / name).mkdir()
        for number in range(6):
            (folder / name / f"{number}.txt").write_text(word * 40)
    return str(folder)


def test_encoder_classifies_a_users_folders(tmp_path: Path) -> None:
    config = {**SMALL_ENCODER, "task": "classification", "data": write_classes(tmp_path)}
    assert last("encoder", 30, **config).metrics["accuracy"] == 1.0
    assert "context: must be at most " in refusal("encoder", **{**config, "context": 8192})


@pytest.mark.parametrize("trainer", ["encoder", "finetune"])
def test_what_is_no_folder_of_classes_is_named(trainer: str, tmp_path: Path) -> None:
    config: dict[str, Any] = {"task": "classification", **CPU}
    if trainer == "finetune":
        config["model"] = tiny_model.folder()
    assert "is not a folder" in refusal(trainer, **config, data=str(tmp_path / "nowhere"))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("text " * 100)
    assert "one subfolder of text files for each of 2 to 256 classes" in refusal(
        trainer, **config, data=str(tmp_path)
    )
    (tmp_path / "two").mkdir()
    assert f"{tmp_path / 'two'} holds no text" in refusal(trainer, **config, data=str(tmp_path))


def test_tags_are_those_of_tokenize_byte_by_byte() -> None:
    source = "class A:\n    x = f('é') + 1  # it\n    def g(self): return 'a\\\n b'\n".encode()
    tags = labelled_text.tags(source)
    shown = "".join("_csnkDN*"[tag] for tag in tags)
    assert shown == (
        "kkkkk_D*_" "____N_*_N*ssss*_*_n__cccc_" "____kkk_D*NNNN**_kkkkkk_ssss" "sss"
    )  # fmt: skip
    # A file that breaks off keeps what came before.
    assert labelled_text.tags(b"x = 1\ny = (2,\n'''open") == bytes(
        labelled_text.TAGS.index(tag) for tag in
        ["name", "space", "operator", "space", "number", "space", "name", "space", "operator", "space",
         "operator", "number", "operator"]
    )  # fmt: skip


def test_little_is_lost_where_files_are_cut() -> None:
    found = text.load("", 400_000)
    for head in list(labelled_text._heads(found.train, 50_000))[:5]:
        tagged = labelled_text.tags(head)
        assert 0.9 * len(head) < len(tagged) <= len(head)


def test_the_standard_librarys_packages_are_classes_with_files_of_their_own_to_validate() -> None:
    found = labelled_text.load("classification", "", 100_000)
    assert found.classes == labelled_text.PACKAGES
    starts = found.validation.even_starts(80, 64)
    assert np.bincount(found.validation.labels[starts]).tolist() == [10] * 8
    windows = found.train.random_starts(np.random.default_rng(0), 200, 64)
    assert (found.train.labels[windows] == found.train.labels[windows + 63]).all()


@pytest.mark.parametrize(("data", "metric", "least"), [("wine", "accuracy", 0.9), ("friedman", "r2", 0.7)])
def test_both_kinds_of_table_are_learned_by_net_and_trees(data: str, metric: str, least: float) -> None:
    net = last("tabular", 200, data=data, lr=0.01, **CPU).metrics
    trees = last("boosting", 60, data=data, rows=0.8, features=0.7).metrics
    for metrics in (net, trees):
        assert metrics[metric] > least
        assert metrics["val_loss"] < 0.5


def test_boosting_of_squared_errors_is_scikit_learns() -> None:
    table = tables.load("diabetes")
    theirs = GradientBoostingRegressor(n_estimators=30, learning_rate=0.2, max_depth=3, random_state=0)
    theirs.fit(table.inputs[: table.training], table.targets[: table.training])
    expected = theirs.predict(table.inputs[table.training :])
    ours = BoostingTrainer(Job({"data": "diabetes", "lr": 0.2, "depth": 3}, 0, 30, 30))
    list(ours.train(30))
    # Of splits that are equally good, a tree takes a random one: a row or two may end in another leaf.
    assert np.mean(np.isclose(ours._outputs[table.training :, 0], expected, atol=1e-6)) > 0.9


def test_a_leaf_of_a_classifier_is_the_newton_step() -> None:
    """One stump on two classes, against its formula."""
    ours = BoostingTrainer(Job({"data": "breast_cancer", "lr": 1.0, "depth": 1}, 0, 1, 1))
    list(ours.train(1))
    rows = ours._table.training
    ones = ours._targets[:rows, 1]
    for leaf in np.unique(ours._outputs[:rows, 1]):
        inside = ours._outputs[:rows, 1] == leaf
        assert leaf == pytest.approx(np.sum(ones[inside] - 0.5) / (0.25 * inside.sum()))


def test_tables_are_standardised_by_what_trains_alone() -> None:
    table = tables.load("breast_cancer")
    assert table.training == round(0.8 * len(load_breast_cancer().target))
    trained = table.inputs[: table.training]
    np.testing.assert_allclose(trained.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(trained.std(0), 1, atol=1e-9)


@pytest.mark.parametrize("trainer", ["tabular", "boosting"])
def test_a_table_that_does_not_exist_is_named_with_those_that_do(trainer: str) -> None:
    message = refusal(trainer, data="breast_cancr")
    assert message.startswith("data: must be one of breast_cancer, digits,")
    assert "did you mean 'breast_cancer'?" in message


@pytest.mark.parametrize("model", ["conv", "mlp"])
def test_vision_reads_digits(model: str) -> None:
    metrics = last("vision", 200, model=model, width=32, lr=0.005, **CPU).metrics
    assert metrics["accuracy"] > 0.9


def paint(folder: Path, colours: dict[str, tuple[int, int, int]], images: int = 10) -> str:
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(images):
            Image.new("RGB", (20 + number, 30), colour).save(folder / name / f"{number}.png")
    return str(folder)


def test_vision_tells_the_images_of_a_folder_apart(tmp_path: Path) -> None:
    data = paint(tmp_path, {"red": (200, 10, 10), "blue": (10, 10, 200)})
    (tmp_path / "red" / "notes.txt").write_text("no image")
    config = {**CPU, "data": data, "size": 16, "width": 4, "lr": 0.02}
    assert last("vision", 30, **config).metrics["accuracy"] == 1.0
    found = image_folder(data, 16, gray=False)
    assert (found.classes, found.training) == (("blue", "red"), 16)
    assert found.pixels.shape == (20, 3, 16, 16)
    assert found.pixels[0, :, 0, 0].tolist() == pytest.approx([10 / 255, 10 / 255, 200 / 255])
    assert image_folder(data, 16, gray=True).pixels.shape == (20, 1, 16, 16)


def test_what_is_no_folder_of_images_is_named(tmp_path: Path) -> None:
    assert "nowhere is not a folder" in refusal("vision", data=str(tmp_path / "nowhere"))
    data = paint(tmp_path / "images", {"red": (200, 10, 10)})
    assert "there is only red" in refusal("vision", data=data)
    paint(tmp_path / "images" / "more", {})
    (tmp_path / "images" / "blue").mkdir()
    assert "blue holds no image" in refusal("vision", data=data)
    paint(tmp_path / "images" / "blue" / "inside", {"deep": (10, 10, 200)})
    (tmp_path / "images" / "blue" / "broken.png").write_bytes(b"no image")
    assert "broken.png is no image that can be read" in refusal("vision", data=data)
    assert "halved at most 3 times" in refusal("vision", depth=4)


def test_label_noise_changes_what_trains_and_nothing_else() -> None:
    clean, noisy = (
        VisionTrainer(Job({"label_noise": noise, **CPU}, 0, 10, 10))._labels for noise in (0.0, 0.5)
    )
    rows = VisionTrainer(Job(CPU, 0, 10, 10))._images.training
    assert (clean[rows:] == noisy[rows:]).all()
    assert 0.35 < float((clean[:rows] != noisy[:rows]).double().mean()) < 0.55


def test_rl_learns_to_balance_a_pole() -> None:
    untrained = last("rl", 1, lr=0.0, weight_decay=0.0, **CPU).metrics["val_return"]
    metrics = last("rl", 40, lr=0.02, weight_decay=0.0, warmup_fraction=0.0, **CPU).metrics
    assert metrics["val_return"] > max(3 * untrained, 100)
    assert metrics["test_return"] > 100


def test_seeds_of_validation_test_and_training_never_meet() -> None:
    validation, test = (set(range(first, first + 1000)) for first in (rl.VALIDATION_SEED, rl.TEST_SEED))
    assert not validation & test
    assert min(validation | test) >= rl.TRAINING_SEEDS


def test_returns_are_discounted_backwards() -> None:
    np.testing.assert_allclose(rl.discounted([1.0, 0.0, 2.0], 0.5), [1.5, 1.0, 2.0])


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ("CartPol-v1", "Did you mean: `CartPole`?"),
        ("CartPole-v7", "It provides versioned environments"),
        ("Pendulum-v1", "has no choice of actions"),
        ("FrozenLake-v1", "no numbers are observed"),
        ("os:CartPole-v1", "only gymnasium's own tasks are made"),
    ],
)
def test_a_task_that_cannot_be_learned_is_named(env: str, words: str) -> None:
    message = refusal("rl", env=env, **CPU)
    assert message.startswith("env: ")
    assert words in message


def test_finetune_tags() -> None:
    config = {**CPU, "model": tiny_model.folder(), "task": "tagging", "context": 48, "max_bytes": 60_000}
    start = last("finetune", 1, **config, lr=0.0).metrics["val_loss"]
    assert last("finetune", 40, **config, lr=0.01).metrics["val_loss"] < start - 0.5


def test_finetune_classifies_a_users_folders(tmp_path: Path) -> None:
    config = {**CPU, "model": tiny_model.folder(), "data": write_classes(tmp_path), "context": 32}
    assert last("finetune", 40, **config, lr=0.01).metrics["accuracy"] == 1.0


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    assert "name the folder of a model" in refusal("finetune")
    assert "models are not downloaded" in refusal("finetune", model="bert-base-uncased")
    assert "there is no config.json" in refusal("finetune", model=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "holds no tokenizer" in refusal("finetune", model=str(tmp_path))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(tiny_model.folder()) / file, tmp_path)
    assert "cannot make an AutoModelForSequenceClassification of" in refusal(
        "finetune", model=str(tmp_path)
    )


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("encoder", SMALL_ENCODER),
        ("tabular", CPU),
        ("vision", CPU),
        ("rl", {**CPU, "episodes": 2, "longest": 20, "eval_episodes": 2}),
    ],
)
def test_divergence_is_data(name: str, config: dict[str, Any]) -> None:
    wild = {"optimizer": "sgd", "lr": 1000.0, "clip": 0.0, "weight_decay": 100.0, "warmup_fraction": 0.0}
    metrics = last(name, 30, **{**config, **wild}).metrics
    assert not math.isfinite(metrics["train_loss"])
    tuned = "val_return" if name == "rl" else "val_loss"
    assert not math.isfinite(metrics[tuned])


@pytest.mark.parametrize(
    ("missing", "trainer"), [("gymnasium", "rl"), ("transformers", "finetune"), ("PIL", "vision")]
)
def test_a_missing_package_is_named(
    missing: str, trainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    paint(tmp_path, {"a": (0, 0, 0), "b": (1, 1, 1)}, images=2)
    config: dict[str, Any] = {"finetune": {"model": str(tmp_path)}, "vision": {"data": str(tmp_path)}}.get(
        trainer, {}
    )
    monkeypatch.setitem(sys.modules, missing, None)
    assert "pip install" in refusal(trainer, **config)
