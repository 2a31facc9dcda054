"""What is declared of a kernel, once: launches, ahead-of-time builds, tests and benchmarks derive from it.

This module needs no Triton; `function` alone comes from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..engine.launching import KernelRequest, names, variant_name

__all__ = ["Configuration", "KernelSpec", "Pointer", "Scalar", "Variant"]


@dataclass(frozen=True)
class Pointer:
    """Argument that points to a dense array, aligned to 16 bytes.

    Attributes:
        name: as the kernel spells it.
        dtype: one of `engine.launching.ITEM_BYTES`, or a name that the variant's `types` resolves ("T").
        dims: extents as expressions over scalars and constants, slowest first: `("B", "Y * X", "C")`.
        written: the kernel writes it, every element.
    """

    name: str
    dtype: str
    dims: tuple[str, ...]
    written: bool = False


@dataclass(frozen=True)
class Scalar:
    """Argument passed by value.

    Attributes:
        name: as the kernel spells it.
        dtype: "i32" or "fp32".
    """

    name: str
    dtype: str = "i32"


@dataclass(frozen=True)
class Variant:
    """One form of a kernel: what changes its code and follows from its inputs.

    Attributes:
        types: type names of the declaration -> dtypes, `{"T": "bf16"}`.
        constants: compile-time constants that follow from inputs, `{"C": 128}`.
    """

    types: Mapping[str, str]
    constants: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, request: KernelRequest) -> Variant:
        """The form that is asked for."""
        return cls(request.types, request.constants)

    @property
    def name(self) -> str:
        """Short and unique among a kernel's variants: `bf16_C128`."""
        return variant_name(self.types, self.constants)


@dataclass(frozen=True)
class Configuration:
    """How a variant is cut for one architecture: what changes its speed and not its result.

    Attributes:
        constants: compile-time constants, such as block sizes.
        warps: of 32 threads, per program.
        stages: of software pipelining.
        registers: at most, per thread; with 16 warps the assembler takes 64 unless it may take 128.
    """

    constants: Mapping[str, int]
    warps: int = 4
    stages: int = 2
    registers: int | None = None


@dataclass(frozen=True)
class KernelSpec:
    """One kernel.

    Attributes:
        name: of the kernel, unique; the custom op `uperfuse::<name>` where it stands for a whole operation.
        function: the Triton function, of the same name for profilers. Its parameters are `arguments` in order, then
            compile-time constants.
        arguments: run-time parameters in launch order.
        grid: one to three expressions over scalars and constants: the number of programs per axis.
        variants: forms that are compiled ahead of time; a launch may ask for others that `admits` allows.
        configure: (variant, compute capability such as 87) to the configuration.
        admits: type names -> the dtypes they may take.
    """

    name: str
    function: Any
    arguments: tuple[Pointer | Scalar, ...]
    grid: tuple[str, ...]
    variants: tuple[Variant, ...]
    configure: Callable[[Variant, int], Configuration]
    admits: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Check that the declaration and the function agree."""
        assert self.function.__name__ == self.name, (
            f"{self.name} runs {self.function.__name__}: profilers show that name"
        )
        parameters = list(self.function.arg_names)
        declared = [each.name for each in self.arguments]
        assert parameters[: len(declared)] == declared, f"{self.name}: {parameters} does not begin with {declared}"
        for variant in self.variants:
            constants = {*variant.constants, *self.configure(variant, 87).constants}
            assert constants == set(parameters[len(declared) :]), f"{self.name} {variant.name}: constants {constants}"
            known = constants | {each.name for each in self.scalars}
            needed = set().union(*map(names, self._expressions()))
            assert needed <= known, f"{self.name}: expressions use {sorted(needed - known)}"

    @property
    def pointers(self) -> tuple[Pointer, ...]:
        """The arguments that point to arrays."""
        return tuple(each for each in self.arguments if isinstance(each, Pointer))

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """The arguments passed by value."""
        return tuple(each for each in self.arguments if isinstance(each, Scalar))

    def dtype(self, argument: Pointer | Scalar, variant: Variant) -> str:
        """An argument's dtype in a variant."""
        return variant.types.get(argument.dtype, argument.dtype)

    def refusal(self, variant: Variant) -> str | None:
        """Why a variant is none that the declaration admits; None where it is one."""
        declared = self.variants[0]
        for what, got, expected in (
            ("types", variant.types, declared.types),
            ("constants", variant.constants, declared.constants),
        ):
            # in order, because their names are made of them
            if [*got] != [*expected]:
                return f"{what} are {[*got]}, expected {[*expected]}"
        for name, dtype in variant.types.items():
            if dtype not in self.admits[name]:
                return f"{name} is {dtype}, expected one of {self.admits[name]}"
        return None

    def constants(self, variant: Variant, capability: int) -> dict[str, int]:
        """All compile-time constants of a variant on an architecture."""
        return {**variant.constants, **self.configure(variant, capability).constants}

    def _expressions(self) -> Iterable[str]:
        yield from self.grid
        for pointer in self.pointers:
            yield from pointer.dims
