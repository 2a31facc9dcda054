"""Which back end runs a plan: the one that was asked for, or the best that can."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import BackendError
from ..plan.plan import Plan
from ..trust import TrustLevel
from .base import Backend

__all__ = ["select_backend"]

_ON_GPU_ALONE = ("fp16", "fp8")


def select_backend(
    plan: Plan,
    *,
    device: str,
    precision: str,
    threads: int | None,
    trust: TrustLevel,
    prime_cache: Path | None = None,
) -> Backend:
    """Compile a plan for a device.

    Args:
        plan: an open plan.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "auto", or a precision of the device.
        threads: processor threads; None takes all that this process may use.
        trust: whose prebuilt engines may run.
        prime_cache: folder of series that were encoded before; processors alone have it.

    Raises:
        BackendError: the device or precision cannot serve; it is refused, never swapped.
    """
    if device == "cpu":
        return _on_processor(plan, precision=precision, threads=threads, prime_cache=prime_cache)
    asked = re.fullmatch(r"cuda(?::(\d{1,3}))?", device)
    if asked and prime_cache is not None:
        raise BackendError(f"what is primed is kept on processors alone, not on {device}; leave the folder out")
    if asked:
        return _on_gpu(plan, ordinal=int(asked[1] or 0), precision=precision, trust=trust)
    if device != "auto":
        raise BackendError(f"device is {device!r}, expected auto, cpu, cuda or cuda:1; name one of them")
    if prime_cache is not None:
        why = ("no GPU is looked for: what is primed is kept on processors alone",)
        return _on_processor(plan, precision=precision, threads=threads, prime_cache=prime_cache, why=why)
    return _best(plan, precision=precision, threads=threads, trust=trust)


def _best(plan: Plan, *, precision: str, threads: int | None, trust: TrustLevel) -> Backend:
    """A GPU where one serves, else the processor, which then says why."""
    if find_spec("pycuda") is None:
        why = "no GPU is looked for: PyCUDA is not installed"
    else:
        try:
            return _on_gpu(plan, ordinal=0, precision=precision, trust=trust)
        except BackendError as error:
            why = f"no GPU: {error}"
    if precision in _ON_GPU_ALONE:
        raise BackendError(f"precision is {precision}, which needs a GPU; {why}")
    return _on_processor(plan, precision=precision, threads=threads, why=(why,))


def _on_processor(
    plan: Plan,
    *,
    precision: str,
    threads: int | None,
    prime_cache: Path | None = None,
    why: tuple[str, ...] = (),
) -> Backend:
    # OpenVINO takes half a second to import: not until it is needed
    from .cpu import CpuBackend

    return CpuBackend(plan, precision=precision, threads=threads, prime_cache=prime_cache, why=why)


def _on_gpu(plan: Plan, *, ordinal: int, precision: str, trust: TrustLevel) -> Backend:
    from .cuda.load import load_cuda

    return load_cuda(plan, ordinal=ordinal, precision=precision, trust=trust)
