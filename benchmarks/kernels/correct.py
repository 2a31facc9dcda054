"""Whether a kernel is right, before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..tolerances import assert_near

if TYPE_CHECKING:
    from .cases import Case

__all__ = ["check"]

_LEAST_EQUAL = 0.999
"""Share of whole numbers that must equal the truth's: a label at a border or a percentage at a half may differ."""


def check(case: Case) -> Callable[[Sequence[Tensor], Sequence[Tensor]], None]:
    """How the results of a case are compared with the truth in float64.

    Returns:
        A function of both that raises AssertionError where they are too far apart.
    """

    def compare(got: Sequence[Tensor], truth: Sequence[Tensor]) -> None:
        assert len(got) == len(truth), f"{case}: {len(got)} results, expected {len(truth)}"
        for place, (ours, theirs) in enumerate(zip(got, truth, strict=True)):
            if ours.dtype.is_floating_point:
                assert_near(ours, theirs.double(), operation=case.shape.kernel, what=f"result {place}")
            else:
                equal = float((ours == theirs).double().mean())
                assert equal >= _LEAST_EQUAL, f"{case}: result {place} equals the truth at {equal:.4%}"

    return compare
