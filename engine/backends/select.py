"""Which back end serves: the one that was asked for by name, or the best that can."""

from __future__ import annotations

from ..errors import BackendError
from ..plan.plan import Plan
from .base import Backend

__all__ = ["select_backend"]

_DEVICES = ("auto", "cpu")


def select_backend(plan: Plan, *, device: str, precision: str, threads: int | None) -> Backend:
    """Compile a plan for `device`.

    Args:
        plan: an open plan.
        device: "auto" or "cpu".
        precision: "auto", "float32" or "bf16".
        threads: processor threads; None takes all that this process may use.

    Raises:
        BackendError: the device or precision cannot serve; it is refused, never swapped.
    """
    if device not in _DEVICES:
        raise BackendError(
            f"device is {device!r}, expected one of {', '.join(_DEVICES)}: this version has no GPU back end; "
            "use device='cpu' or 'auto'"
        )
    # OpenVINO takes half a second to import: not until it is needed
    from .cpu import CpuBackend

    return CpuBackend(plan, precision=precision, threads=threads)
