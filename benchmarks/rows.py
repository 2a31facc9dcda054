"""What the project promises of its speed, row by row; `README.md` holds what was reached beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ELSEWHERE", "ROWS", "Elsewhere", "Row", "row_of"]


@dataclass(frozen=True)
class Row:
    """One promise.

    Attributes:
        key: by which records name it.
        program: of this folder, which measures it.
        what: is measured, in words.
        relation: what is reached must be at least or at most the target.
        target: in `unit`.
        unit: times as fast (or as long), gigabytes of 10^9, seconds, or points of a percentage.
        than: what is not reached here is compared with; empty for absolute numbers.
    """

    key: str
    program: str
    what: str
    relation: Literal[">=", "<="]
    target: float
    unit: Literal["x", "GB", "s", "points"]
    than: str = ""

    @property
    def wanted(self) -> str:
        """The target, in words."""
        return f"{self.relation} {self.target:g} {self.unit}{f' {self.than}' if self.than else ''}"

    def reached(self, value: float) -> bool:
        """Whether a value keeps the promise."""
        return value >= self.target if self.relation == ">=" else value <= self.target


_TILE = "one 512 px aerial tile, Swin-B + UPerNet, raw pixels to labels and confidence"
_FRAME = "aerial frame, five modalities primed (LC-L)"
_RASTER = "a raster of 10,000 x 10,000 px"

ROWS = (
    Row("tile-float32", "tile", _TILE, ">=", 8, "x", "PyTorch eager float32"),
    Row("tile-bf16", "tile", _TILE, ">=", 2.6, "x", "PyTorch bf16"),
    Row("tile-graph", "tile", _TILE, ">=", 1.15, "x", "OpenVINO bf16 on one graph, then NumPy"),
    Row("tile-int8", "tile", f"{_TILE}, in 8 bits", ">=", 1, "x", "the same plan in bf16"),
    Row("frame-aerial", "frame", _FRAME, "<=", 1.1, "x", "the time of the aerial-only model"),
    Row("frame-all", "frame", _FRAME, ">=", 12, "x", "the reference, which computes all six"),
    Row("series", "series", "U-TAE alone, 61 dates, 64 tiles", ">=", 4, "x", "the reference at equal precision"),
    Row("raster-shipped", "raster", _RASTER, ">=", 25, "x", "the reference's zonal tool as shipped"),
    Row("raster-equal", "raster", _RASTER, ">=", 8, "x", "the same tool at equal overlap"),
    Row("memory", "memory", "memory for a raster of any size, beyond the model", "<=", 2, "GB"),
    Row("load", "load", "`Engine.load` of the small plan, seen before", "<=", 1, "s"),
    Row("accuracy", "accuracy", "mIoU of a plan in bf16, against float32", "<=", 0.1, "points"),
)
"""Those that a processor can keep."""


@dataclass(frozen=True)
class Elsewhere:
    """A promise that `make bench` does not measure: what is promised, and why there is no number here."""

    what: str
    wanted: str
    why: str


ELSEWHERE = (
    Elsewhere(
        "Triton kernels, sm_87 and sm_90",
        "no spills; bytes moved <= 1.15 x compulsory",
        "read from the compiled kernels by `make test`; times need a GPU: `pytest benchmarks/kernels --benchmark`",
    ),
    Elsewhere(
        "a plan on a GPU",
        "none stated",
        "needs a GPU: `uperfuse benchmark PLAN --device cuda`",
    ),
    Elsewhere(
        "a plan in float32, against PyTorch",
        "1e-4 relative, 99.99 % of classes equal",
        "every export refuses to write what misses it; `uperfuse verify PLAN` repeats it",
    ),
)


def row_of(key: str) -> Row:
    """The row with a key."""
    return next(row for row in ROWS if row.key == key)
