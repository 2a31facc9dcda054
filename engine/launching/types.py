"""Types of a kernel's arguments, and what every array's address must be."""

from __future__ import annotations

__all__ = ["ITEM_BYTES", "POINTER_ALIGNMENT"]

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "i64": 8, "i32": 4, "i16": 2, "u16": 2, "u8": 1}
"""Types of arguments, by Triton's names, and bytes of one element."""
POINTER_ALIGNMENT = 16
"""Bytes that divide the address of every array: kernels load that many at once."""
