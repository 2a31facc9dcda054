"""Compiles a kernel ahead of time, for any architecture and without a GPU."""

from __future__ import annotations

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from ..engine.launching import POINTER_ALIGNMENT
from .spec import KernelSpec, Pointer, Scalar, Variant

__all__ = ["compile_kernel"]


def compile_kernel(spec: KernelSpec, *, variant: Variant, capability: int) -> Any:
    """Compile one variant of a kernel.

    Every pointer is declared to be a multiple of `POINTER_ALIGNMENT`, which a launch must keep.

    Args:
        spec: the kernel.
        variant: its form.
        capability: compute capability, such as 87.

    Returns:
        Triton's compiled kernel: `asm["cubin"]`, `asm["ptx"]` and `metadata`.

    Raises:
        RuntimeError: the process runs with TRITON_INTERPRET=1, which makes kernels that cannot be compiled.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("kernels are interpreted in this process, expected a compiler; unset TRITON_INTERPRET")
    constants = spec.constants(variant, capability)
    signature = {each.name: _type(spec, each, variant) for each in spec.arguments}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = {
        (place,): [["tt.divisibility", POINTER_ALIGNMENT]]
        for place, each in enumerate(spec.arguments)
        if isinstance(each, Pointer)
    }
    configuration = spec.configure(variant, capability)
    source = ASTSource(spec.function, signature, constants, aligned)
    with triton.knobs.compilation.scope():
        # line tables would carry the paths of the machine that compiles
        triton.knobs.compilation.disable_line_info = True
        return triton.compile(
            source,
            target=GPUTarget("cuda", capability, 32),
            options={
                "num_warps": configuration.warps,
                "num_stages": configuration.stages,
                "maxnreg": configuration.registers,
            },
        )


def _type(spec: KernelSpec, argument: Pointer | Scalar, variant: Variant) -> str:
    dtype = spec.dtype(argument, variant)
    return f"*{dtype}" if isinstance(argument, Pointer) else dtype
