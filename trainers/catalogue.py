"""The trainers' settings and optimizers as JSON, for those who check study files without importing them.

``make catalogue`` writes both into the client::

    python -m trainers.catalogue > client/trimtab/catalogue.json
    python -m trainers.catalogue optimizers > client/trimtab/optimizers.json
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from trainers.optimizers.table import LISTED
from trainers.registry import ENTRIES
from trainers.settings import describe


def catalogue() -> dict[str, Any]:
    """Per trainer's name: doc, metrics (name -> meaning), the metric usually tuned with its direction,
    fidelity unit and settings (see :func:`trainers.settings.describe`)."""
    return {
        name: {
            "doc": inspect.getdoc(entry.config),
            "metrics": dict(entry.metrics),
            "metric": entry.metric,
            "direction": entry.direction,
            "fidelity_unit": entry.fidelity_unit,
            "settings": describe(entry.config),
        }
        for name, entry in ENTRIES.items()
    }


def optimizers() -> dict[str, Any]:
    """Per optimizer's name: package, learning rate and its range, the settings it uses, and whether it
    takes one gradient a step."""
    return {
        name: {
            "package": facts.package.value,
            "lr": facts.lr,
            "low": facts.low,
            "high": facts.high,
            "uses": list(facts.uses),
            "once": facts.once,
        }
        for name, facts in LISTED.items()
    }


def text() -> str:
    """The catalogue as it is kept in the client."""
    return json.dumps(catalogue(), indent=1) + "\n"


def optimizers_text() -> str:
    """The optimizers as they are kept in the client, a line for each."""
    lines = (f" {json.dumps(name)}: {json.dumps(facts)}" for name, facts in optimizers().items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    print(optimizers_text() if sys.argv[1:] == ["optimizers"] else text(), end="")
