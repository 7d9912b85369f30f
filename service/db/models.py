"""The tables.

Numbers people see (``trial 12``) count within their study; integer keys join tables; a study's ``key``
is its public id. An attempt's primary key is its fencing token: unique, growing, never reused.

A non-finite metric has no place in SQLite's REAL or in JSON: ``value`` is NULL for it, and ``metrics``
and ``outcomes`` hold it as the string ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, as the wire does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite forgets the zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            return value.replace(tzinfo=UTC)
        return value


# SQLite gives a rowid (and AUTOINCREMENT) to INTEGER keys only.
BigKey = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Base of all tables; constraints are named so that migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        str: String,
    }


class StudyRow(Base):
    __tablename__ = "studies"
    __table_args__ = (
        Index("ix_studies_state_id", "state", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    key: Mapped[str] = mapped_column(String(32), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    state_reason: Mapped[str] = mapped_column(Text, default="")
    version: Mapped[int] = mapped_column(default=1)
    """Moves whenever something happens that decisions depend on."""
    decided_version: Mapped[int] = mapped_column(default=0)
    """The version that search has seen."""
    decide_error: Mapped[str | None] = mapped_column(Text)
    pruning: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What of the space is searched, as :class:`search.pruning.Pruning` has it; NULL: all of it."""
    finals: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Once search is over in a study with test seeds: why, which trials are tested, and which one won
    (:mod:`service.db.finals`); NULL: search goes on."""
    # Copies out of the spec that queries filter and sort by.
    metric: Mapped[str] = mapped_column(String(120))
    maximize: Mapped[bool]
    strategy: Mapped[str] = mapped_column(String(120))
    trainer: Mapped[str] = mapped_column(String(200))
    external: Mapped[bool]
    """Trained by the user's own loop (ask and tell): no dispatcher leases its runs."""
    parallelism: Mapped[int]
    cpus: Mapped[float]
    gpus: Mapped[float]
    custom: Mapped[dict[str, Any]]
    tags: Mapped[list[str]]
    best_trial_id: Mapped[int | None] = mapped_column(BigInteger)
    best_value: Mapped[float | None]
    next_trial: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    active_seconds: Mapped[float] = mapped_column(default=0.0)
    """Wall-clock seconds in state running with a scheduler alive, up to ``active_since``."""
    active_since: Mapped[datetime | None]


class TrialRow(Base):
    __tablename__ = "trials"
    __table_args__ = (
        UniqueConstraint("study_id", "number"),
        Index("ix_trials_study_id_state", "study_id", "state"),
        Index("ix_trials_study_id_best_value", "study_id", "best_value"),
        Index("ix_trials_study_id_parent", "study_id", "parent"),
        # Unique: no seed of a trial is ever trained twice. Trials that are no replicas are not compared.
        Index("ix_trials_study_id_replica_of_seed", "study_id", "replica_of", "seed", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    state_reason: Mapped[str] = mapped_column(Text, default="")
    params: Mapped[dict[str, Any]]
    label: Mapped[str | None] = mapped_column(String(120))
    origin: Mapped[str] = mapped_column(String(16))
    first_target: Mapped[int] = mapped_column(BigInteger)
    """The target of its first run: it tells a bracket of Hyperband from another."""
    to_end: Mapped[bool] = mapped_column(default=False)
    """Trained to the end whatever the strategy and all rules but divergence and target say."""
    parent: Mapped[int | None]
    """Number of the trial that it was forked from; NULL: it started from nothing."""
    forked_at: Mapped[int] = mapped_column(BigInteger, default=0)
    """The step of its parent's checkpoint that it started from; its own curve lies behind it."""
    schedule: Mapped[list[list[float]] | None] = mapped_column(JSON(none_as_null=True))
    """The learning rate at every step, as :data:`search.decision.Schedule`; NULL: as its parameters say."""
    seed: Mapped[int | None] = mapped_column(BigInteger)
    """What it is trained with, if not with the study's seed: a fork's own, and its descendants'; of a
    study that names tuning seeds, every trial's."""
    replica_of: Mapped[int | None]
    """Number of the trial whose configuration it repeats with another seed; NULL: a trial of its own."""
    test: Mapped[bool] = mapped_column(default=False)
    """A replica with a test seed: search never sees it, and no budget pays for it."""
    seeds_measured: Mapped[int] = mapped_column(default=0)
    """Tuning seeds that it was trained to its end with, its own first one included (see
    :mod:`service.db.seeds`); 0 in a study with one seed."""
    spread: Mapped[float | None]
    """Standard deviation over these seeds at ``best_step``; NULL: fewer than two."""
    spared: Mapped[str | None] = mapped_column(Text)
    """Why its other tuning seeds are not trained; NULL: they are, or will be."""
    target_step: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger, default=0)
    """How far it has come; a fork begins at ``forked_at``."""
    value: Mapped[float | None]
    outcomes: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The metrics that objectives and limits name, at its last measurement; NULL where none are named."""
    best_value: Mapped[float | None]
    """Of the measurements that keep the study's limits. Once ``seeds_measured`` is set: the best of the
    mean curve over these seeds."""
    best_step: Mapped[int | None] = mapped_column(BigInteger)
    first_value: Mapped[float | None]
    """The metric's first finite value: what a divergence rule compares."""
    points: Mapped[int] = mapped_column(default=0)
    """Measurements of its curve."""
    since_best: Mapped[int] = mapped_column(default=0)
    """Measurements since the best value: what a patience rule counts."""
    trained: Mapped[int] = mapped_column(BigInteger, default=0)
    """Units of fidelity paid, training repeated after a loss counted in."""
    seconds: Mapped[float] = mapped_column(default=0.0)
    """Seconds its attempts have held their resources."""
    runs: Mapped[int] = mapped_column(default=0)
    retries: Mapped[int] = mapped_column(default=0)
    failures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Failed attempts by kind, for the retry policy."""
    failure_kind: Mapped[str | None] = mapped_column(String(16))
    failure_message: Mapped[str | None] = mapped_column(Text)
    failure_output: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class RunRow(Base):
    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("trial_id", "number"),
        Index("ix_runs_study_id_state_id", "study_id", "state", "id"),
        Index("ix_runs_checkpoint_id", "checkpoint_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    start_step: Mapped[int] = mapped_column(BigInteger)
    target_step: Mapped[int] = mapped_column(BigInteger)
    end_step: Mapped[int | None] = mapped_column(BigInteger)
    checkpoint_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"))
    """Where the next attempt starts from; moves on as the run saves newer checkpoints."""
    wish: Mapped[str | None] = mapped_column(String(16))
    """How it is to end: pause or stop (a person, the study's state, search, a stopping rule), complete
    (the target value is reached), diverged or invalid (it has failed). Told at the next report."""
    wish_reason: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    queued_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class AttemptRow(Base):
    __tablename__ = "attempts"
    __table_args__ = (
        Index("ix_attempts_study_id_state", "study_id", "state"),
        Index("ix_attempts_state_lease_expires_at", "state", "lease_expires_at"),
        Index("ix_attempts_run_id", "run_id"),
        Index("ix_attempts_trial_id", "trial_id"),
        Index("ix_attempts_worker_state", "worker", "state"),
        {"sqlite_autoincrement": True},
    )

    token: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(16))
    worker: Mapped[str] = mapped_column(String(120))
    incarnation: Mapped[str] = mapped_column(String(120))
    start_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int] = mapped_column(default=0)
    lease_seconds: Mapped[float | None]
    lease_expires_at: Mapped[datetime | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    failure_kind: Mapped[str | None] = mapped_column(String(16))
    failure_message: Mapped[str | None] = mapped_column(Text)
    failure_output: Mapped[str | None] = mapped_column(Text)


class MeasurementRow(Base):
    """A point of a learning curve; the key makes a second one at the same step impossible."""

    __tablename__ = "measurements"
    __table_args__ = (
        Index("ix_measurements_study_id_step_best", "study_id", "step", "best"),
        {"sqlite_with_rowid": False},
    )

    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    study_id: Mapped[int] = mapped_column(BigInteger)
    """No foreign key: a point goes with its trial, and each key costs a look-up per point."""
    token: Mapped[int | None] = mapped_column(BigInteger)
    value: Mapped[float | None]
    best: Mapped[float | None]
    """The trial's best value up to this step that keeps the limits: what a median rule compares."""
    metrics: Mapped[dict[str, Any]]
    seconds: Mapped[float | None]
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    at: Mapped[datetime]


class CheckpointRow(Base):
    __tablename__ = "checkpoints"
    __table_args__ = (
        Index("ix_checkpoints_trial_id_step", "trial_id", "step"),
        Index("ix_checkpoints_state_id", "state", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int | None] = mapped_column(BigInteger)
    """No foreign key: the row outlives its study until the files are deleted."""
    trial_id: Mapped[int | None] = mapped_column(BigInteger)
    token: Mapped[int] = mapped_column(BigInteger)
    step: Mapped[int] = mapped_column(BigInteger)
    uri: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16))
    refs: Mapped[int] = mapped_column(default=0)
    """Unfinished runs that start from it, forks that wait for it, plus one while its trial keeps it."""
    at: Mapped[datetime]


class ImprovementRow(Base):
    """A point of a study's best-so-far curve."""

    __tablename__ = "improvements"
    __table_args__ = (Index("ix_improvements_study_id_id", "study_id", "id"),)

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    trial_number: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    fidelity: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float]
    value: Mapped[float]


class PredictorRow(Base):
    """What the predicted rule of a study has learned from its finished curves."""

    __tablename__ = "predictors"

    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"), primary_key=True)
    finished: Mapped[int]
    """Trials that were trained to the end when it was fitted."""
    document: Mapped[dict[str, Any] | None]
    """A :class:`~search.prediction.Predictor` as JSON; None: the curves are too few."""
    at: Mapped[datetime]


class DecisionRow(Base):
    __tablename__ = "decisions"
    __table_args__ = (
        Index("ix_decisions_study_id_id", "study_id", "id"),
        Index("ix_decisions_trial_id_id", "trial_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    trial_id: Mapped[int | None] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    target_step: Mapped[int | None] = mapped_column(BigInteger)
    reason: Mapped[str] = mapped_column(Text)
    strategy: Mapped[str] = mapped_column(String(120))
    seed: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int]
    """The study's version that the decision was made from."""
    seconds: Mapped[float]
    diagnostics: Mapped[dict[str, Any]]
    asked: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """With the first decision of an answer: what search was asked (:mod:`service.db.reads.replay`)."""
    at: Mapped[datetime]


class EventRow(Base):
    """The append-only history; its id is the cursor of live views."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_study_id_id", "study_id", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id", ondelete="CASCADE"))
    study_key: Mapped[str] = mapped_column(String(32))
    trial_number: Mapped[int | None]
    kind: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class IdempotencyRow(Base):
    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    study_key: Mapped[str] = mapped_column(String(32))
    at: Mapped[datetime]


class ProcessRow(Base):
    """Heartbeats of schedulers and dispatchers, for readiness and for fencing off incarnations."""

    __tablename__ = "processes"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    incarnation: Mapped[str] = mapped_column(String(120))
    detail: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime]


class FitRow(Base):
    """A scaling law fitted to runs, or on its way there."""

    __tablename__ = "fits"
    __table_args__ = (
        Index("ix_fits_state_id", "state", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    key: Mapped[str] = mapped_column(String(32), unique=True)
    idempotency_key: Mapped[str | None] = mapped_column(String(200), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    """Of the request, to tell whether the same idempotency key came with the same one."""
    name: Mapped[str] = mapped_column(String(120))
    family: Mapped[str] = mapped_column(String(120))
    options: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[dict[str, Any]]
    """Where the runs were read from, as :class:`~trimtab.wire.laws.FitSource`."""
    runs: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)
    """What is fitted, as the service's ``laws.runs_to_json`` writes it."""
    counts: Mapped[dict[str, Any]]
    """How many runs there are, as :class:`~trimtab.wire.laws.FitCounts`."""
    state: Mapped[str] = mapped_column(String(16))
    progress: Mapped[float] = mapped_column(default=0.0)
    error: Mapped[str | None] = mapped_column(Text)
    """Why it failed."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Moves whenever a process takes the fit: what an earlier one says of it no longer counts."""
    lease_expires_at: Mapped[datetime | None]
    """A running fit of which nothing was heard until then is run again."""
    law: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    """The fitted law as its family writes it; only with state done."""
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    cautions: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
