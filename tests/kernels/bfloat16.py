"""Makes Triton's interpreter treat bfloat16 as boards do.

The interpreter keeps bfloat16 as 16-bit integers: it multiplies these integers in `tl.dot`, and where it makes bfloat16
of float32 it cuts off instead of rounding to the nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


@contextmanager
def mended() -> Iterator[None]:
    """Convert to the nearest bfloat16 and multiply bfloat16 as numbers, inside the `with`."""
    original_cast = InterpreterBuilder.cast_impl
    original_convert = InterpreterBuilder.create_fp_to_fp
    original_dot = InterpreterBuilder.create_dot

    def cast(builder, source, dtype):
        converted = _convert(source, dtype.scalar)
        return original_cast(builder, source, dtype) if converted is None else converted

    def convert(builder, source, dtype, rounding_mode):
        converted = _convert(source, dtype.scalar)
        return original_convert(builder, source, dtype, rounding_mode) if converted is None else converted

    def dot(builder, left, right, total, *rest):
        # float16 gains, too: NumPy multiplies it without a library
        wide = (cast(builder, each, tl.float32) if each.dtype.scalar in _SHORT else each for each in (left, right))
        return original_dot(builder, *wide, total, *rest)

    with (
        patch.object(InterpreterBuilder, "cast_impl", cast),
        patch.object(InterpreterBuilder, "create_fp_to_fp", convert),
        patch.object(InterpreterBuilder, "create_dot", dot),
    ):
        yield


_SHORT = (tl.bfloat16, tl.float16)


def _convert(source: TensorHandle, dtype: tl.dtype) -> TensorHandle | None:
    """Convert between bfloat16 and float32; None for any other pair."""
    before = source.dtype.scalar
    if (before, dtype) == (tl.bfloat16, tl.float32):
        return TensorHandle((source.data.astype(np.uint32) << 16).view(np.float32), dtype)
    if (before, dtype) == (tl.float32, tl.bfloat16):
        bits = np.ascontiguousarray(source.data).view(np.uint32)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # ties to even
        return TensorHandle(np.where(np.isnan(source.data), 0x7FC0, nearest).astype(np.uint16), dtype)
    return None
