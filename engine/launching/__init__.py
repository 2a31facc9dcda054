"""How our compiled kernels are launched by a program that has neither Triton nor PyTorch.

`record` says of one cubin where its arguments lie, `expressions` how large its grid and arrays are, `numbers` which
numbers an operation hands to its kernel. The kernels' own launches from PyTorch use the same.
"""

from .expressions import evaluate, names
from .numbers import AttentionNumbers, ResizeStep, attention_numbers, classify_block, classify_numbers, resize_steps
from .record import File, LaunchRecord, Parameter
from .types import ITEM_BYTES, POINTER_ALIGNMENT

__all__ = [
    "ITEM_BYTES",
    "POINTER_ALIGNMENT",
    "AttentionNumbers",
    "File",
    "LaunchRecord",
    "Parameter",
    "ResizeStep",
    "attention_numbers",
    "classify_block",
    "classify_numbers",
    "evaluate",
    "names",
    "resize_steps",
]
