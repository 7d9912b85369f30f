"""What every wire model shares: unknown fields are refused, non-finite floats travel as strings.

JSON has no NaN. A metric may be ``NaN``, ``Infinity`` or ``-Infinity`` (the signature of a diverged
training run); on the wire it is the string of that name. A parameter is always finite.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from trimtab.wire import limits


class Wire(BaseModel):
    """Base of every request, response and file model."""

    model_config = ConfigDict(
        extra="forbid", ser_json_inf_nan="strings", frozen=True, use_attribute_docstrings=True
    )


FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
MetricValue = Annotated[float, Field(allow_inf_nan=True)]
Name = Annotated[str, Field(min_length=1, max_length=limits.MAX_NAME_CHARS, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name people read: any printable characters."""

Identifier = Annotated[
    str,
    Field(min_length=1, max_length=limits.MAX_NAME_CHARS, pattern=r"^[A-Za-z_][A-Za-z0-9_.\-/]*$"),
]
"""A name programs read: parameters and metrics."""

Step = Annotated[int, Field(ge=0, le=limits.MAX_STEP)]
"""A position on a learning curve, in the study's fidelity unit."""

ParamValue = (
    StrictBool
    | StrictInt
    | Annotated[StrictFloat, Field(allow_inf_nan=False)]
    | Annotated[StrictStr, Field(max_length=limits.MAX_TEXT_CHARS)]
)
"""One parameter's value: never NaN or infinite."""

Params = Annotated[dict[Identifier, ParamValue], Field(max_length=limits.MAX_PARAMETERS)]
Metrics = Annotated[dict[Identifier, MetricValue], Field(min_length=1, max_length=limits.MAX_METRICS)]
