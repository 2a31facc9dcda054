"""Types of a kernel's arguments, what every array's address must be, and for what kernels are compiled."""

from __future__ import annotations

__all__ = ["ARCHITECTURES", "ITEM_BYTES", "KERNEL_TYPES", "POINTER_ALIGNMENT"]

ITEM_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "i64": 8, "i32": 4, "i16": 2, "u16": 2, "u8": 1}
"""Types of arguments, by Triton's names, and bytes of one element."""
KERNEL_TYPES = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "int16": "i16",
    "uint16": "u16",
    "uint8": "u8",
}
"""Types of digital numbers and of parts' doors, as plans name them -> Triton's names."""
ARCHITECTURES = (80, 86, 87, 89, 90, 100, 110, 120)
"""Compute capabilities that kernels are compiled for, 87 for 8.7."""
POINTER_ALIGNMENT = 16
"""Bytes that divide the address of every array: kernels load that many at once."""
