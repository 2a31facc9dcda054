"""The kinds of values that a manifest is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "Colour",
    "Count",
    "Extent",
    "Finite",
    "Hex",
    "Label",
    "Model",
    "MonthDay",
    "Name",
    "Piece",
    "Pixels",
    "Positive",
]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]
# No control characters or line breaks: labels are printed on terminals and written into rasters.
Label = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\p{C}\p{Zl}\p{Zp}]*$")]
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
MonthDay = Annotated[str, StringConstraints(pattern=r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Pixels = Annotated[int, Field(ge=1, le=16384)]
Count = Annotated[int, Field(ge=0)]
Extent = Annotated[int, Field(ge=1, le=65536)]  # of one axis of a tensor
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Model(BaseModel):
    """A frozen part of a manifest; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Piece(Model):
    """What serves one modality or one task, and is called `role:subject`."""

    name: Label

    @property
    def role(self) -> str:
        """What it does."""
        return self.name.split(":", 1)[0]

    @property
    def subject(self) -> str:
        """Name of the modality or task."""
        return self.name.split(":", 1)[1]
