"""Whether an operation runs as its kernel or as its plain-PyTorch reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from torch import Tensor

__all__ = ["disable", "fused", "interpret", "interpreting"]

_disabled = 0
_interpreting = False


class _Disabled:
    """What `disable` returns: used in a `with`, it undoes itself at the end."""

    def __enter__(self) -> None:
        """Nothing to do: it took effect when it was made."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        global _disabled
        _disabled -= 1


def disable() -> _Disabled:
    """Run the plain-PyTorch references instead of the kernels, in the whole process.

    Called as a statement it holds until the process ends; in a `with` statement it holds inside of it.

    Returns:
        A context manager.

    Example:
        >>> with disable():
        ...     pass  # networks on CUDA run without our kernels here
    """
    global _disabled
    _disabled += 1
    return _Disabled()


@contextmanager
def interpret() -> Iterator[None]:
    """Run kernels on CPU tensors, through Triton's interpreter; the process must run with TRITON_INTERPRET=1.

    Raises:
        RuntimeError: Triton's interpreter is off.
    """
    import triton

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("Triton's interpreter is off, expected TRITON_INTERPRET=1; set it before Python starts")
    global _interpreting
    before, _interpreting = _interpreting, True
    try:
        yield
    finally:
        _interpreting = before


def interpreting() -> bool:
    """Whether kernels run on CPU tensors, through Triton's interpreter."""
    return _interpreting


def fused(tensor: Tensor) -> bool:
    """Whether an operation on this tensor runs as its kernel: on CUDA, unless disabled."""
    return _disabled == 0 and (tensor.is_cuda or _interpreting)
