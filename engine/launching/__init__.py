"""How our compiled kernels are launched by a program that has neither Triton nor PyTorch.

`requests` says which compiled kernel a step needs, `plan_requests` all that a plan needs, `limits` what kernels cannot
serve. `files` reads a compiled kernel, `record` says where its arguments lie, `expressions` how large its grid and
arrays are, `numbers` which numbers an operation hands to it. The kernels' own launches from PyTorch use the same.
"""

from .expressions import evaluate, names
from .files import KernelFiles, kernel_stem
from .limits import aggregate_limit, attention_limit, classify_limit, dates_limit
from .numbers import (
    AttentionNumbers,
    ResizeStep,
    attention_numbers,
    classify_block,
    classify_numbers,
    classify_room,
    resize_steps,
)
from .plan_requests import SHORT_TYPES, AttentionShape, check_attention, plan_requests
from .record import File, LaunchRecord, Parameter
from .requests import (
    AGGREGATED_MAPS,
    ATTENTION_DATES,
    KernelRequest,
    aggregate_request,
    attention_request,
    classify_request,
    fusion_request,
    prepare_request,
    variant_name,
)
from .types import ARCHITECTURES, ITEM_BYTES, KERNEL_TYPES, POINTER_ALIGNMENT

__all__ = [
    "AGGREGATED_MAPS",
    "ARCHITECTURES",
    "ATTENTION_DATES",
    "ITEM_BYTES",
    "KERNEL_TYPES",
    "POINTER_ALIGNMENT",
    "SHORT_TYPES",
    "AttentionNumbers",
    "AttentionShape",
    "File",
    "KernelFiles",
    "KernelRequest",
    "LaunchRecord",
    "Parameter",
    "ResizeStep",
    "aggregate_limit",
    "aggregate_request",
    "attention_limit",
    "attention_numbers",
    "attention_request",
    "check_attention",
    "classify_block",
    "classify_limit",
    "classify_numbers",
    "classify_request",
    "classify_room",
    "dates_limit",
    "evaluate",
    "fusion_request",
    "kernel_stem",
    "names",
    "plan_requests",
    "prepare_request",
    "resize_steps",
    "variant_name",
]
