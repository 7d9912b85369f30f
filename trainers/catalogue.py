"""The trainers' settings as JSON, for those who check study files without importing the trainers.

``python -m trainers.catalogue > client/trimtab/catalogue.json`` (``make catalogue``)
"""

from __future__ import annotations

import inspect
import json
from typing import Any

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


def text() -> str:
    """The catalogue as it is kept in the client."""
    return json.dumps(catalogue(), indent=1) + "\n"


if __name__ == "__main__":
    print(text(), end="")
