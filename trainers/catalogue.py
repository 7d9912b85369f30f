"""The trainers' settings and optimizers as JSON, for those who check study files without importing them.

``make catalogue`` writes both into the client::

    python -m trainers.catalogue > client/trimtab/catalogue.json
    python -m trainers.catalogue optimizers > client/trimtab/optimizers.json
    python -m trainers.catalogue page > docs/OPTIMIZERS.md
"""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from trainers.optimizers.table import FAMILIES, LISTED, NOT_LISTED, SQRT_RULE, Facts
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
    """Per optimizer's name: package, learning rate and its range, the settings it uses, whether it takes
    one gradient a step, its family, and what the square-root rule scales of it."""
    return {
        name: {
            "package": facts.package.value,
            "lr": facts.lr,
            "low": facts.low,
            "high": facts.high,
            "uses": list(facts.uses),
            "once": facts.once,
            "family": FAMILIES[name].name.lower() if name in FAMILIES else None,
            "sqrt_rule": SQRT_RULE.get(name),
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


def page() -> str:
    """The optimizers as a page for people."""
    rows = "\n".join(
        f"| `{name}` | {facts.package.value} | {facts.lr:g} | {facts.low:g} to {facts.high:g} | "
        f"{_decay(facts)} | {_rules(name)} | "
        f"{', '.join(use for use in facts.uses if use != 'weight_decay') or '-'} |"
        for name, facts in LISTED.items()
    )
    left_out = "\n".join(f"| `{name}` | {reason} |" for name, reason in NOT_LISTED.items())
    return _PAGE.format(count=len(LISTED), rows=rows, left_out=left_out)


def _decay(facts: Facts) -> str:
    if "weight_decay" not in facts.uses:
        return "-"
    return f"{facts.weight_decay:.2g}{'' if facts.decoupled else ' (L2)'}"


def _rules(name: str) -> str:
    mup = [f"muP ({FAMILIES[name].name.upper().replace('ADAM', 'Adam')})"] if name in FAMILIES else []
    return ", ".join([*mup, *(["`adam`"] if name in SQRT_RULE else [])]) or "-"


_PAGE = """# Optimizers

Written by `make catalogue`. These {count} train, and resume bit-exactly from a checkpoint; a test holds
that of each. Names are those of torch and of pytorch-optimizer's registry. Where both have one, or the
registry means something else by a name than the papers do, the registry's begins with `po-`: `adams` is
that of "AdamS: Momentum Itself Can Be A Normalizer" (2025), `po-adams` is Adam with stable weight decay.
`nadamw` is torch's NAdam with decoupled decay.

The rate is what is used where a study sets none, the range what is searched where it only searches
`optimizer`. Ranges suit small nets; for large ones begin lower. Learning-rate-free methods (`prodigy`,
`dog`, `dadapt...`) take the rate as a multiplier. `muon` and its kin, and `spectralsphere`, are for hidden
matrices, and AdamW takes the other weights at a twentieth of the rate. Weight decay is decoupled, and by
default 0.0001 a step at the optimizer's own rate; where it says L2, it is added to the gradient. Gains and
biases do not decay, except with `adammini`. Momentum and betas are the share of the past that is kept,
whatever the package's own convention. Rules that an optimizer may be used with: muP (`mup_base_width`
of the `gpt` trainer), as for Adam or as for SGD; `adam`, the rule of a tie between batch size and rate.

| name | package | rate | range | weight decay | rules | further settings |
|---|---|---|---|---|---|---|
{rows}

## Not to be had

| name | why |
|---|---|
{left_out}

Of torchao's low-bit optimizers none is listed: they compile their step, and bitsandbytes has the same ones
without. Its 8-bit optimizers keep matrices of fewer than 4096 numbers in 32 bits.
"""


def main() -> None:
    """Print what the command line asks for."""
    what = {"optimizers": optimizers_text, "page": page}.get(sys.argv[1] if sys.argv[1:] else "", text)
    print(what(), end="")


if __name__ == "__main__":
    main()
