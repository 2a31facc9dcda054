"""How much scratch memory a build may use."""

from __future__ import annotations

from ..errors import BackendError

__all__ = ["MIN_WORKSPACE_BYTES", "workspace"]

MIN_WORKSPACE_BYTES = 64 << 20
"""Below it TensorRT finds no way to compute some layers."""


def workspace(free_bytes: int, *, total_bytes: int, integrated: bool, available_host_bytes: int) -> int:
    """Bytes of scratch memory that a build may use, by what is free.

    Weights, inputs and outputs lie beside it, and other programs live on: a quarter of what is free stays free. On
    boards where the GPU has the host's memory, TensorRT keeps its copies of the weights in the same memory, and a
    system that runs out of it ends the process without a word; half stays free there.

    Args:
        free_bytes: of device memory.
        total_bytes: of device memory.
        integrated: whether device and host share their memory.
        available_host_bytes: what the host can give without swapping, caches of files included.

    Raises:
        BackendError: too little is left to build anything.
    """
    free = min(free_bytes, total_bytes)
    if integrated:
        free = min(free, available_host_bytes)
    usable = free // 2 if integrated else free * 3 // 4
    if usable < MIN_WORKSPACE_BYTES:
        what = "memory, which the GPU shares with the host," if integrated else "device memory"
        raise BackendError(
            f"{free >> 20} MiB of {what} are free, expected enough for a workspace of {MIN_WORKSPACE_BYTES >> 20} MiB "
            "beside the network; close other programs"
        )
    return usable
