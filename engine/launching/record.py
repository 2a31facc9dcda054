"""The launch record: all that a program without Triton must know to launch a compiled kernel.

`<kernel>.<variant>.json` lies beside the cubin and the PTX that it describes. To launch, with the CUDA driver API:

1. Take the record whose `capability` is the device's and whose `types` and `constants` are those of the inputs, and
   check the cubin against its size and sha256. `cuModuleLoadData`, `cuModuleGetFunction(symbol)`.
2. If `shared_bytes` is above 49,152: `cuFuncSetAttribute(MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)`.
3. Lay out `parameter_bytes` bytes, zero, and write each of `parameters` at its `offset`, little-endian:
   a `pointer` as the device address of a dense array of `dtype` whose extents are the expressions `dims`, slowest
   first, aligned to `alignment` bytes; an array without elements may be null. A `scalar` as its value. A `null` stays
   zero: Triton keeps these places for scratch memory, which our kernels do not use.
   The kernel writes every element of the arrays that are `written`, and writes nowhere else.
4. Evaluate the three expressions `grid` over the scalars, `constants` and `configuration`. Where one gives 0 there is
   nothing to launch. x can be up to 2^31 - 1, y and z up to 65,535.
5. `cuLaunchKernel` with that grid, `block`, `shared_bytes` of dynamic shared memory, and the parameters (an array of
   addresses, or the buffer as CU_LAUNCH_PARAM_BUFFER_POINTER). No cluster, no cooperative launch.

Expressions hold integers, names, `+ - * //`, `cdiv(a, b)`, `min` and `max`, with Python's precedence and Python's
division, which rounds down (`expressions.py`).

A cubin runs on its own architecture, with a driver of `ptxas`'s major CUDA version or a later one. Its PTX, which needs
a driver of `ptxas`'s version or a later one, runs on later architectures, too, unless `target` ends in "a" (`sm_90a`),
which no other architecture runs: what comes after the architectures of a build takes the PTX of sm_89.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .expressions import names
from .types import ITEM_BYTES

__all__ = ["File", "LaunchRecord", "Parameter"]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)]
VariantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$", max_length=200)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Dtype = Annotated[str, StringConstraints(pattern=f"^({'|'.join(ITEM_BYTES)})$")]
Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Parameter(_Strict):
    """One parameter, in launch order.

    Attributes:
        name: as the kernel spells it.
        kind: "pointer", "scalar", or "null" for eight bytes of zero.
        dtype: of the array's elements or of the scalar; none of a null.
        offset: in the parameters, bytes.
        size: in the parameters, bytes.
        dims: extents of the array, slowest first.
        written: the kernel writes the array.
        alignment: of the array's address, bytes.
    """

    name: Name
    kind: Literal["pointer", "scalar", "null"]
    dtype: Dtype | None = None
    offset: Count
    size: Annotated[int, Field(ge=1, le=8)]
    dims: tuple[Expression, ...] = ()
    written: bool = False
    alignment: Count = 0


class File(_Strict):
    """Size and content of a file."""

    size: Count
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, content: bytes) -> File:
        """Describe a file's content."""
        return cls(size=len(content), sha256=hashlib.sha256(content).hexdigest())


class LaunchRecord(_Strict):
    """How a compiled kernel is launched; the module says how to read it.

    Attributes:
        version: of this layout.
        kernel: name of the kernel.
        variant: name of the variant.
        types: type names of the declaration -> dtypes.
        constants: compile-time constants that follow from inputs.
        configuration: compile-time constants that the architecture chose, such as block sizes.
        capability: compute capability, 87 for 8.7.
        target: that ptxas compiled for, such as sm_87 or sm_90a.
        symbol: of the kernel in the cubin.
        parameters: in order, the trailing nulls included.
        parameter_bytes: all of them together.
        grid: expressions of the number of blocks along x, y, z.
        block: threads along x, y, z.
        shared_bytes: dynamic shared memory of a block.
        triton: its version.
        ptxas: CUDA version of the assembler.
        cubin: the cubin's size and sha256.
        ptx: the PTX's.
    """

    version: Literal[1] = 1
    kernel: Name
    variant: VariantName
    types: dict[Name, Dtype]
    constants: dict[Name, int]
    configuration: dict[Name, int]
    capability: Annotated[int, Field(ge=80, le=999)]
    target: Annotated[str, StringConstraints(pattern=r"^sm_\d+a?$")]
    symbol: Name
    parameters: tuple[Parameter, ...]
    parameter_bytes: Count
    grid: tuple[Expression, Expression, Expression]
    block: tuple[int, Literal[1], Literal[1]]
    shared_bytes: Count
    triton: str
    ptxas: str
    cubin: File
    ptx: File

    @model_validator(mode="after")
    def _check(self) -> LaunchRecord:
        """Parameters lie one after another, at places that their sizes divide; expressions use what is there."""
        end = 0
        for parameter in self.parameters:
            place = -(-end // parameter.size) * parameter.size
            if parameter.offset != place:
                raise ValueError(f"parameter {parameter.name} is at {parameter.offset}, expected {place}")
            end = place + parameter.size
        if self.parameter_bytes != end:
            raise ValueError(f"parameters take {end} bytes, the record says {self.parameter_bytes}")
        if self.target.rstrip("a") != f"sm_{self.capability}":
            raise ValueError(f"target is {self.target}, expected one of compute capability {self.capability}")
        scalars = {each.name for each in self.parameters if each.kind == "scalar"}
        for text in (*self.grid, *(text for each in self.parameters for text in each.dims)):
            unknown = names(text) - scalars - self.constants.keys() - self.configuration.keys()
            if unknown:
                raise ValueError(f"{text!r} uses {sorted(unknown)}, expected scalars and constants of the record")
        return self

    def to_json(self) -> str:
        """The record as it lies beside the cubin; the same record gives the same text."""
        return self.model_dump_json(indent=1) + "\n"
