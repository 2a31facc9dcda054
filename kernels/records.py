"""The launch record of a compiled kernel, from its declaration and from what the compiler says of it."""

from __future__ import annotations

import re
from typing import Any, Literal

from ..engine.launching import ITEM_BYTES, POINTER_ALIGNMENT, File, LaunchRecord, Parameter
from .boards import BOARDS
from .spec import KernelSpec, Pointer, Variant

__all__ = ["BuildError", "launch_record"]

POINTER_BYTES = 8
PTX_BYTES = {"64": 8, "32": 4}
NULLS = ("global_scratch", "profile_scratch")
"""Parameters that Triton adds behind a kernel's own."""


class BuildError(RuntimeError):
    """The build cannot be done; nothing was written."""


def launch_record(spec: KernelSpec, *, variant: Variant, capability: int, compiled: Any) -> LaunchRecord:
    """The launch record of a compiled kernel, checked against its PTX.

    Args:
        spec: the kernel.
        variant: its form.
        capability: compute capability that it was compiled for.
        compiled: what `compile_kernel` made.

    Raises:
        BuildError: the kernel asks for what a launch record cannot say, or for more than the architecture has.
    """
    from triton.backends.nvidia.compiler import get_ptxas

    made = compiled.metadata
    plain = (made.global_scratch_size, made.profile_scratch_size, made.num_ctas, made.launch_cooperative_grid)
    if plain != (0, 0, 1, False) or made.launch_pdl or made.tensordesc_meta:
        raise BuildError(
            "asks for scratch memory, clusters, a cooperative launch or descriptors, expected none of them"
        )
    board = BOARDS[capability]
    if made.shared > board.block_shared_bytes:
        raise BuildError(
            f"asks for {made.shared} bytes of shared memory, expected at most {board.block_shared_bytes} on "
            f"sm_{capability} ({board.products})"
        )
    ptx: str = compiled.asm["ptx"]
    parameters = _parameters(spec, variant)
    sizes = [PTX_BYTES[bits] for bits in re.findall(r"^\s*\.param \.[a-z](\d+)", ptx, flags=re.MULTILINE)]
    if sizes != [each.size for each in parameters]:
        raise BuildError(f"PTX has parameters of {sizes} bytes, expected {[each.size for each in parameters]}")
    (target,) = re.findall(r"^\.target (\w+)", ptx, flags=re.MULTILINE)
    # more than the declaration's warps where Triton gives some of them a part of their own
    (threads,) = re.findall(r"^\.reqntid (\d+)$", ptx, flags=re.MULTILINE)
    configuration = spec.configure(variant, capability)
    x, y, z = (*spec.grid, "1", "1")[:3]
    return LaunchRecord(
        kernel=spec.name,
        variant=variant.name,
        types=dict(variant.types),
        constants=dict(variant.constants),
        configuration=dict(configuration.constants),
        capability=capability,
        target=target,
        symbol=made.name,
        parameters=parameters,
        parameter_bytes=parameters[-1].offset + parameters[-1].size,
        grid=(x, y, z),
        block=(int(threads), 1, 1),
        shared_bytes=made.shared,
        triton=made.triton_version,
        ptxas=get_ptxas(capability).version,
        cubin=File.of(compiled.asm["cubin"]),
        ptx=File.of(ptx.encode()),
    )


def _parameters(spec: KernelSpec, variant: Variant) -> tuple[Parameter, ...]:
    """Where each argument lies: in order, each at a place that its size divides."""
    placed: list[Parameter] = []

    def place(name: str, kind: Literal["pointer", "scalar", "null"], size: int, **rest: Any) -> None:
        end = placed[-1].offset + placed[-1].size if placed else 0
        placed.append(Parameter(name=name, kind=kind, offset=-(-end // size) * size, size=size, **rest))

    for each in spec.arguments:
        dtype = spec.dtype(each, variant)
        if isinstance(each, Pointer):
            array = {"dims": each.dims, "written": each.written, "alignment": POINTER_ALIGNMENT}
            place(each.name, "pointer", POINTER_BYTES, dtype=dtype, **array)
        else:
            place(each.name, "scalar", ITEM_BYTES[dtype], dtype=dtype)
    for name in NULLS:
        place(name, "null", POINTER_BYTES)
    return tuple(placed)
