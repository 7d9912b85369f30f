"""Settings: every mistake is named, and the catalogue says the same rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.trainers import tiny_model
from trainers import catalogue
from trainers.base import InvalidConfigurationError, Job
from trainers.registry import ENTRIES, create, names
from trainers.settings import parse

ROOT = Path(__file__).parents[2]


def problems(name: str, **config: Any) -> list[str]:
    with pytest.raises(InvalidConfigurationError) as caught:
        create(name, Job(config, 0, 10, 1))
    return str(caught.value).splitlines()


def test_every_mistake_is_named() -> None:
    found = problems(
        "gpt",
        widht=64,
        lr="big",
        heads=2.5,
        dropout=0.95,
        batch_size=0,
        schedule="cosin",
        data=3,
        depth=True,
    )
    assert [line.split(":")[0] for line in found] == [
        "widht", "lr", "heads", "dropout", "batch_size", "schedule", "data", "depth",
    ]  # fmt: skip
    assert found[0] == "widht: no such setting (did you mean 'width'?)"
    assert found[3] == "dropout: must be at most 0.9, not 0.95"
    assert "did you mean 'cosine'?" in found[5]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", True])
def test_a_number_is_a_finite_number(value: Any) -> None:
    assert len(problems("synthetic", lr=value)) == 1


def test_a_whole_number_will_do_for_a_float() -> None:
    config = parse(ENTRIES["digits"].config, {"lr": 1})
    assert repr(config).count("lr=1.0") == 1


def test_rules_over_several_settings() -> None:
    found = problems("gpt", width=48, heads=5)
    assert [line.split(":")[0] for line in found] == ["width"]


def test_no_data() -> None:
    assert problems("gpt", data="/no/such/folder") == ["data: /no/such/folder does not exist"]


def test_unknown_trainer() -> None:
    with pytest.raises(InvalidConfigurationError, match="did you mean 'digits'"):
        create("digit", Job({}, 0, 1, 1))


def test_the_clients_catalogue_is_up_to_date() -> None:
    kept = (ROOT / "client/trimtab/catalogue.json").read_text()
    assert kept == catalogue.text(), "run: make catalogue"
    kept = (ROOT / "client/trimtab/optimizers.json").read_text()
    assert kept == catalogue.optimizers_text(), "run: make catalogue"
    assert (ROOT / "docs/OPTIMIZERS.md").read_text() == catalogue.page(), "run: make catalogue"


def test_the_catalogue_agrees_with_the_checks() -> None:
    for name, entry in catalogue.catalogue().items():
        config = ENTRIES[name].config
        defaults = {
            item["name"]: item["default"] for item in entry["settings"] if item["default"] is not None
        }
        assert parse(config, defaults) == config()
        assert entry["metric"] in entry["metrics"]
        for item in entry["settings"]:
            assert item["doc"].endswith(".")
            for bound, beyond in (("low", -1), ("high", 1)):
                if item[bound] is not None:
                    with pytest.raises(InvalidConfigurationError, match=item["name"]):
                        parse(config, {item["name"]: item[bound] + beyond})


@pytest.mark.parametrize("name", [name for name in names() if name != "suite"])  # see test_suite.py
def test_reported_metrics_are_in_the_catalogue(name: str) -> None:
    small: dict[str, dict[str, Any]] = {
        "gpt": {"width": 8, "depth": 1, "max_bytes": 20_000},
        "encoder": {"max_bytes": 20_000},
        "finetune": {"max_bytes": 20_000, "context": 64},
    }
    config = small.get(name, {})
    if name == "finetune":
        config["model"] = tiny_model.folder()
    (point,) = create(name, Job(config, 0, 1, 1)).train(1)
    assert point.metrics.keys() <= ENTRIES[name].metrics.keys()


def test_the_catalogue_is_made_without_torch() -> None:
    code = "import sys, trainers.catalogue; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
