"""Numbers of 8 bits: what a tensor becomes when it is divided by a scale and rounded to one of 256 values.

    int8    equal steps from -128 to 127
    uint8   for maps: equal steps around 128, or from 0 where a map is never negative; weights are int8
    fp8     E4M3: 4 bits of exponent, 3 of mantissa, no infinity, up to 448

Zero stays zero in all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOP", "Kind", "Range", "Steps", "codes", "rounded", "scale_of", "steps_of"]

Kind = Literal["int8", "uint8", "fp8"]

TOP = {"int8": 127.0, "uint8": 127.0, "fp8": 448.0}
"""Largest value of a symmetric tensor of each kind."""

_UNSIGNED_TOP, _UNSIGNED_MIDDLE = 255, 128
_SMALLEST_EXPONENT, _MANTISSA_BITS = -6, 3
_SCALE_BITS = 8
_SMALLEST_SCALE = 2.0**-24


@dataclass(frozen=True)
class Range:
    """Values of a map that have to be told apart; those beyond are clipped. It holds 0."""

    low: float
    high: float

    @property
    def amplitude(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high)


@dataclass(frozen=True)
class Steps:
    """How a map is rounded: to `scale` times a whole number from `low` to `high`, stored with `zero` added to it."""

    scale: float
    zero: int
    low: float
    high: float


def steps_of(values: Range, *, kind: Kind) -> Steps:
    """Steps for the values of a map."""
    if kind == "uint8" and values.low >= 0:
        return Steps(float(scale_of(values.high, top=_UNSIGNED_TOP)), 0, 0, _UNSIGNED_TOP)
    scale = float(scale_of(values.amplitude, top=TOP[kind]))
    if kind == "fp8":
        return Steps(scale, 0, -TOP[kind], TOP[kind])
    return Steps(scale, _UNSIGNED_MIDDLE if kind == "uint8" else 0, -TOP[kind] - 1, TOP[kind])


def scale_of(amplitude: Any, *, top: float) -> NDArray[np.float32]:
    """Scales that bring amplitudes to `top`.

    A scale is rounded up to a number that float16, bfloat16 and float32 all hold, so that a graph means the same in
    whichever type it is written.

    Args:
        amplitude: largest absolute values, any shape; 0 for a tensor of zeros.
        top: largest number of steps.

    Returns:
        float32 scales of the same shape, larger than 0.
    """
    mantissa, exponent = np.frexp(np.asarray(amplitude, np.float64) / top)
    short = np.ldexp(np.ceil(mantissa * 2**_SCALE_BITS) / 2**_SCALE_BITS, exponent)
    scale = np.ceil(short / _SMALLEST_SCALE) * _SMALLEST_SCALE  # float16 has nothing finer
    result: NDArray[np.float32] = np.where(scale > 0, scale, 1.0).astype(np.float32)
    return result


def rounded(values: NDArray[np.floating[Any]], *, scale: NDArray[np.float32], kind: Kind) -> NDArray[np.float32]:
    """What is left of weights when they are stored in 8 bits.

    Args:
        values: numbers.
        scale: broadcasts against `values`.
        kind: of numbers.
    """
    steps = np.clip(np.asarray(values, np.float64) / scale, -TOP[kind], TOP[kind])
    quantum: NDArray[np.float64] | float = 1.0
    if kind == "fp8":
        _, exponent = np.frexp(steps)  # steps = m * 2**exponent with m from 0.5 to below 1
        quantum = np.ldexp(1.0, np.maximum(exponent - 1, _SMALLEST_EXPONENT) - _MANTISSA_BITS)
    kept: NDArray[np.float32] = (np.rint(steps / quantum) * quantum * scale).astype(np.float32)
    return kept


def codes(values: NDArray[np.floating[Any]], *, scale: NDArray[np.float32], kind: Kind) -> NDArray[Any]:
    """Weights as they are stored: int8, or the bytes (uint8) of E4M3.

    Args:
        values: numbers.
        scale: broadcasts against `values`.
        kind: of numbers.
    """
    steps = rounded(values, scale=scale, kind=kind).astype(np.float64) / scale
    if kind != "fp8":
        return np.rint(steps).astype(np.int8)
    code = np.searchsorted(_E4M3, np.abs(steps) * (1 - 1e-6))  # the place of the value itself
    return (code + np.where(np.signbit(steps), 128, 0)).astype(np.uint8)


def _e4m3() -> NDArray[np.float64]:
    """Values of the codes 0 to 126, rising."""
    code = np.arange(127)
    exponent, mantissa = code >> _MANTISSA_BITS, code & (2**_MANTISSA_BITS - 1)
    normal = np.ldexp(1 + mantissa / 2**_MANTISSA_BITS, exponent - 7)
    small = np.ldexp(mantissa.astype(np.float64), _SMALLEST_EXPONENT - _MANTISSA_BITS)
    values: NDArray[np.float64] = np.where(exponent > 0, normal, small)
    return values


_E4M3 = _e4m3()
