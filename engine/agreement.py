"""How near two maps of the same tiles are, and how near is near enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError
from .plan.payloads import Agreement

__all__ = ["BOUNDS", "Bound", "agreement_of", "mean_iou", "refuse_unlike", "relative_error"]


class Bound(NamedTuple):
    """What a precision must reach on drawn tiles, which no network was trained on."""

    relative_error: float
    argmax_equal: float


BOUNDS = {
    # rounding alone
    "float32": Bound(1e-4, 0.9999),
    # bf16 keeps 8 bits of a number: networks of random weights were off by 0.2 to 3.4 %, trained ones by less; fp16
    # keeps three bits more
    "fp16": Bound(5e-2, 0.95),
    "bf16": Bound(5e-2, 0.95),
    # accuracy on the user's tiles is limited where ranges are chosen; this finds what does not compute the network
    "int8": Bound(3e-1, 0.8),
    "fp8": Bound(3e-1, 0.8),
}
"""By precision."""


def relative_error(got: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """L2 norm of the difference over the L2 norm of what is expected.

    Raises:
        ValueError: the shapes differ.
    """
    if got.shape != expected.shape:
        raise ValueError(f"values of shape {got.shape} beside expected ones of shape {expected.shape}")
    difference = got.astype(np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-30))


def mean_iou(got: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], *, classes: int) -> float:
    """Mean IoU in percent over the classes that occur in either map.

    Args:
        got: classes.
        truth: classes, of the same shape.
        classes: how many there are.
    """
    pairs = np.bincount(truth.ravel().astype(np.int64) * classes + got.ravel(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes)
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    return float(100 * (both[either > 0] / either[either > 0]).mean())


def agreement_of(task: str, got: NDArray[np.float32], truth: NDArray[np.float32]) -> Agreement:
    """Compare logits [B, K, Y, X] of a task with those that are true."""
    ours, theirs = got.argmax(1), truth.argmax(1)
    return Agreement(
        task=task,
        relative_error=relative_error(got, truth),
        argmax_equal=float((ours == theirs).mean()),
        miou=mean_iou(ours, theirs, classes=got.shape[1]),
    )


def refuse_unlike(agreement: Sequence[Agreement], *, precision: str, what: str) -> None:
    """Refuse what is not near enough to the truth.

    Raises:
        BackendError: names the task, what was found and what was expected.
    """
    bound = BOUNDS[precision]
    for each in agreement:
        if each.relative_error > bound.relative_error or each.argmax_equal < bound.argmax_equal:
            raise BackendError(
                f"{what} gives other maps of {each.task} than the plan: relative error {each.relative_error:.1e} and "
                f"{each.argmax_equal:.2%} of classes equal, expected at most {bound.relative_error:.0e} and at least "
                f"{bound.argmax_equal:.2%}; it is not used, build it in another precision or report it"
            )
