"""Parameters of paths, queries and headers that several routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from trimtab.wire import limits

StudyKey = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="The study's id.", examples=["s1b2c3d4e5f6"])
]
TrialNumber = Annotated[
    int, Path(ge=1, le=limits.MAX_TRIALS_PER_STUDY, description="The trial's number in its study, from 1.")
]
Cursor = Annotated[
    str | None,
    Query(max_length=1_000, description="`next_cursor` of the page before; absent for the first page."),
]
Limit = Annotated[int, Query(ge=1, le=limits.MAX_PAGE, description="Rows on a page, at most.")]
EventId = Annotated[int, Query(ge=0, lt=2**63, description="Only events behind the one with this id.")]
Text = Annotated[str | None, Query(min_length=1, max_length=limits.MAX_NAME_CHARS, pattern=r"^[^\x00]*$")]
StudyKeyQuery = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="Events of this study alone.")
]
