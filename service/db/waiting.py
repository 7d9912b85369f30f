"""What a running study waits for in vain: a dispatcher, or one that is large enough."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db.models import ProcessRow, StudyRow
from service.db.processes import ALIVE
from trimtab.wire.states import StudyState
from trimtab.wire.work import Capacity


def waiting_for(session: Session, study: StudyRow, now: datetime) -> str | None:
    """Why nothing of ``study`` can be trained as things stand; None if something can.

    What a dispatcher offers is what it registered with: all of its cluster.
    """
    if study.state != StudyState.RUNNING or study.external:
        return None
    details = session.scalars(
        select(ProcessRow.detail).where(ProcessRow.kind == "dispatcher", ProcessRow.seen_at >= now - ALIVE)
    ).all()
    if not details:
        return "no dispatcher is running"
    if not all("total" in detail for detail in details):
        return None  # One has not registered yet: it may be large enough.
    needs = _amounts(study.cpus, study.gpus, study.custom)
    offers = [_offer(Capacity.model_validate(detail["total"])) for detail in details]
    if any(_fits(needs, offer) for offer in offers):
        return None
    largest = max(offers, key=lambda offer: (_met(needs, offer), offer["gpus"], offer["cpus"]))
    return (
        f"no worker can hold a trial: it needs {_text(needs)}; the largest worker offers {_text(largest)}"
    )


def _offer(total: Capacity) -> dict[str, float]:
    return {"cpus": 0.0, "gpus": 0.0} | _amounts(total.cpus, total.gpus, total.custom)


def _amounts(cpus: float, gpus: float, custom: Mapping[str, float]) -> dict[str, float]:
    """By name, those above zero."""
    named = {"cpus": cpus, "gpus": gpus, **custom}
    return {name: amount for name, amount in named.items() if amount > 0}


def _met(needs: Mapping[str, float], offer: Mapping[str, float]) -> int:
    return sum(amount <= offer.get(name, 0.0) for name, amount in needs.items())


def _fits(needs: Mapping[str, float], offer: Mapping[str, float]) -> bool:
    return _met(needs, offer) == len(needs)


def _text(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in amounts.items())
