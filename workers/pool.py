"""Warm actors, kept by what they hold of the cluster and reused by whatever run asks for the same."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import ray

from trimtab.wire.study import ResourceSpec
from trimtab.wire.work import Assignment, Capacity
from workers.actor import TrainingActor
from workers.cluster import Cluster
from workers.messages import Message, Order
from workers.scratch import Scratch

IDLE_SECONDS = 300.0
"""An actor that nobody wanted for so long gives its resources back to a shared cluster."""
_DIGITS = 4
"""Ray counts resources in ten-thousandths."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A resource request."""

    cpus: float
    gpus: float = 0.0
    custom: tuple[tuple[str, float], ...] = ()

    @staticmethod
    def of(spec: ResourceSpec) -> Shape:
        return Shape(spec.cpus, spec.gpus, tuple(sorted(spec.custom.items())))

    def capacity(self) -> Capacity:
        """What one actor of this shape holds."""
        return Capacity(cpus=self.cpus, gpus=self.gpus, custom=dict(self.custom))

    def fits(self, capacity: Capacity) -> bool:
        """Whether ``capacity`` has room for it."""
        return (
            self.cpus <= capacity.cpus
            and self.gpus <= capacity.gpus
            and all(amount <= capacity.custom.get(name, 0.0) for name, amount in self.custom)
        )

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} cpus", f"{self.gpus:g} gpus"]
        return ", ".join(parts + [f"{amount:g} {name}" for name, amount in self.custom])


@dataclass(eq=False, slots=True)
class PooledActor:
    """One actor, and the one way to talk to it."""

    shape: Shape
    handle: Any
    idle_since: float = field(default_factory=time.monotonic)

    async def run(self, assignment: Assignment) -> AsyncIterator[list[Message]]:
        """Train; see :meth:`TrainingActor.run`. Raises ``ray.exceptions.RayError`` if the actor dies."""
        stream = self.handle.run.options(num_returns="streaming").remote(assignment)
        async for reference in stream:
            yield await reference

    def order(self, token: int, order: Order) -> None:
        """Send an order and do not wait."""
        self.handle.order.remote(token, order)

    def prepare(self) -> None:
        """Have the built-in trainers imported ahead of time."""
        self.handle.prepare.remote()

    def kill(self) -> None:
        """End its process, and with it the script it may be running."""
        ray.kill(self.handle)


class ActorPool:
    """All actors of this dispatcher. Not for several threads."""

    def __init__(self, cluster: Cluster, checkpoints: str, scratch: Scratch) -> None:
        self.cluster = cluster
        """What there is; may be replaced as nodes come and go."""
        self._checkpoints = checkpoints
        self._scratch = scratch
        self._busy: list[PooledActor] = []
        self._idle: list[PooledActor] = []

    def free(self) -> Capacity:
        """What is not held by running trials; idle actors give way and count as free."""
        return self._left(self._busy)

    def placeable(self, shape: Shape) -> bool:
        """Whether any single node is large enough."""
        return any(shape.fits(node) for node in self.cluster.nodes)

    def take(self, shape: Shape) -> PooledActor:
        """An actor of this shape: a warm one, or a new one; idle ones of other shapes make room for it."""
        for actor in reversed(self._idle):
            if actor.shape == shape:
                self._idle.remove(actor)
                break
        else:
            while self._idle and not shape.fits(self._left(self._busy + self._idle)):
                self._idle.pop(0).kill()
            actor = self._start(shape)
        self._busy.append(actor)
        return actor

    def give_back(self, actor: PooledActor) -> None:
        """It is free for the next run."""
        self._busy.remove(actor)
        actor.idle_since = time.monotonic()
        self._idle.append(actor)

    def discard(self, actor: PooledActor) -> None:
        """It is dead or not to be trusted any more."""
        self._busy.remove(actor)
        actor.kill()

    def warm_up(self, shape: Shape, count: int) -> None:
        """Start ``count`` actors for built-in trainers ahead of the first run."""
        for _ in range(count):
            actor = self._start(shape)
            actor.prepare()
            self._idle.append(actor)

    def retire_idle(self, *, older_than: float) -> None:
        """End the actors that have been idle for more than so many seconds."""
        now = time.monotonic()
        for actor in [actor for actor in self._idle if now - actor.idle_since > older_than]:
            self._idle.remove(actor)
            actor.kill()

    def close(self) -> None:
        """End all actors."""
        for actor in [*self._busy, *self._idle]:
            actor.kill()

    def _start(self, shape: Shape) -> PooledActor:
        options: dict[str, Any] = {
            "num_cpus": shape.cpus,
            "num_gpus": shape.gpus,
            "resources": dict(shape.custom),
            "max_concurrency": 3,
        }
        threads = max(1, int(shape.cpus))
        remote = ray.remote(TrainingActor).options(**options)
        return PooledActor(shape, remote.remote(self._checkpoints, threads, self._scratch))

    def _left(self, actors: list[PooledActor]) -> Capacity:
        total = self.cluster.total
        held: dict[str, float] = {}
        for actor in actors:
            for name, amount in actor.shape.custom:
                held[name] = held.get(name, 0.0) + amount
        return Capacity(
            cpus=_rest(total.cpus, sum(actor.shape.cpus for actor in actors)),
            gpus=_rest(total.gpus, sum(actor.shape.gpus for actor in actors)),
            custom={name: _rest(amount, held.get(name, 0.0)) for name, amount in total.custom.items()},
        )


def _rest(total: float, held: float) -> float:
    return max(0.0, round(total - held, _DIGITS))
